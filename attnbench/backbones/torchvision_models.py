"""torchvision's classifiers as named stages: VGG, ResNet, SqueezeNet, MobileNet, ViT and their like."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import torchvision
from torch import Tensor, nn
from torchvision import models

from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.backbones.cutting import (
    ClassToken,
    Stages,
    blocks_of,
    cut,
    features_and_head,
    in_a_row,
)
from attnbench.backbones.imagenet import WNIDS
from attnbench.backbones.published import initialised, load_weights
from attnbench.errors import AttnbenchError


def load_torchvision(name: str, *, untrained: bool = False, data: Path | None = None) -> Backbone:
    """A torchvision ImageNet classifier, frozen, in eval mode, cut into stages.

    Args:
        name: as torchvision has it, such as `vgg16`.
        untrained: leave it as initialised with seed 0.
        data: a folder; weights in its `weights/NAME-*.safetensors` are preferred to a download.
            Its metadata may name a normalisation of its own, as `preprocess: mean=std=0.5`.

    Raises:
        AttnbenchError: for an unknown network, one that cannot be cut, or weights not to be had.
    """
    if name not in models.list_models(module=models):
        raise AttnbenchError(
            f"torchvision {torchvision.__version__} has no classifier {name!r}; "
            "`torchvision.models.list_models()` lists them (vgg16, resnet50, vit_b_16, …)"
        )
    weights = _published_weights(name)
    model: nn.Module = initialised(lambda: models.get_model(name, weights=None))
    said = ""
    if not untrained:
        said = load_weights(
            model, name, data, lambda: weights.get_state_dict(progress=False, check_hash=True)
        )
    preset = weights.transforms()
    # Weights from elsewhere may expect another normalisation, and say so: "mean=std=0.5".
    own = re.search(r"mean=std=([0-9.]+)", said)
    mean, std = ((float(own[1]),) * 3,) * 2 if own else (tuple(preset.mean), tuple(preset.std))
    return Backbone(
        stages_of(name, model, preset.crop_size[0]),
        name=f"torchvision/{name}",
        labels=WNIDS,
        preprocessing=Preprocessing(
            size=preset.crop_size[0],
            resize=preset.resize_size[0],
            mean=mean,
            std=std,
        ),
    )


class TokensOfImage(nn.Module):
    """The input side of torchvision's ViT: patches, class token, position embedding."""

    def __init__(self, vit: models.VisionTransformer) -> None:
        super().__init__()
        self.conv_proj = vit.conv_proj
        self.class_token = vit.class_token
        self.pos_embedding = vit.encoder.pos_embedding
        self.dropout = vit.encoder.dropout

    def forward(self, images: Tensor) -> Tensor:
        """`[n, 3, H, W]` to tokens `[n, 1 + patches, d]`."""
        patches = self.conv_proj(images).flatten(2).permute(0, 2, 1)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1)
        return cast(Tensor, self.dropout(tokens + self.pos_embedding))


def stages_of(name: str, model: nn.Module, size: int) -> Stages:
    """The stages of one of torchvision's classifiers, in its order.

    Those that we know have stages of their names; others are cut by what their modules look like, and
    at least into the last layer and what comes before it.

    Args:
        name: for the error.
        model: in eval mode, taken to pieces.
        size: of its images.

    Raises:
        AttnbenchError: where it cannot be cut.
    """
    known: dict[type[nn.Module], Callable[[Any], Stages]] = {
        models.VGG: _vgg,
        models.ResNet: _resnet,
        models.SqueezeNet: _squeezenet,
        models.VisionTransformer: _vit,
    }
    if type(model) in known:
        return known[type(model)](model)
    ways: tuple[Callable[[Any], Stages], ...] = (features_and_head,)
    if not isinstance(model, models.SwinTransformer):  # whose maps have their channels last
        ways = (_features_and_classifier, in_a_row, features_and_head)
    return cut(f"torchvision/{name}", model, size, ways)


def _vgg(model: models.VGG) -> Stages:
    stages = {f"block{n}": block for n, block in enumerate(blocks_of(model.features), start=1)}
    first, second, head = model.classifier[:3], model.classifier[3:6], model.classifier[6]
    pool = nn.Sequential(model.avgpool, nn.Flatten())
    return stages | {"pool": pool, "fc1": first, "fc2": second, "head": head}


def _resnet(model: models.ResNet) -> Stages:
    return {
        "stem": nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool),
        "layer1": model.layer1,
        "layer2": model.layer2,
        "layer3": model.layer3,
        "layer4": model.layer4,
        "pool": nn.Sequential(model.avgpool, nn.Flatten()),
        "head": model.fc,
    }


def _squeezenet(model: models.SqueezeNet) -> Stages:
    stages: Stages = {
        f"block{n}": each for n, each in enumerate(blocks_of(model.features), start=1)
    }
    return stages | {"head": nn.Sequential(*model.classifier, nn.Flatten())}


def _vit(model: models.VisionTransformer) -> Stages:
    encoder = model.encoder
    stages: Stages = {"tokens": TokensOfImage(model)}
    stages |= {f"block{n}": block for n, block in enumerate(encoder.layers, start=1)}
    return stages | {"norm": nn.Sequential(encoder.ln, ClassToken()), "head": model.heads}


def _features_and_classifier(model: Any) -> Stages:
    """Networks that run features, a global pool and a classifier, such as MobileNet."""
    stages: Stages = {f"block{n}": module for n, module in enumerate(model.features, start=1)}
    *neck, head = model.classifier
    pool: nn.Module = getattr(model, "avgpool", None) or nn.AdaptiveAvgPool2d(1)
    flatten = [] if isinstance(model, models.ConvNeXt) else [nn.Flatten()]
    return stages | {"pool": nn.Sequential(pool, *flatten, *neck), "head": head}


def _published_weights(name: str) -> Any:
    known = models.get_model_weights(name)
    return getattr(known, "IMAGENET1K_V1", None) or next(iter(known))
