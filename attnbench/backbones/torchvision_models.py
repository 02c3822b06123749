"""torchvision's classifiers as named stages: VGG, ResNet, SqueezeNet, MobileNet, ViT and their like."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
import torchvision
from safetensors import SafetensorError
from torch import Tensor, nn
from torchvision import models

from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.backbones.imagenet import WNIDS
from attnbench.errors import AttnbenchError

Stages = dict[str, nn.Module]


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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = models.get_model(name, weights=None)
    said = "" if untrained else _load_weights(model, name, weights, data)
    preset = weights.transforms()
    # Weights from elsewhere may expect another normalisation, and say so: "mean=std=0.5".
    own = re.search(r"mean=std=([0-9.]+)", said)
    mean, std = ((float(own[1]),) * 3,) * 2 if own else (tuple(preset.mean), tuple(preset.std))
    return Backbone(
        stages_of(name, model.eval()),
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


class ClassToken(nn.Module):
    """Tokens `[n, t, d]` to the class token `[n, d]`."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


def stages_of(name: str, model: nn.Module) -> Stages:
    """The stages of one of torchvision's classifiers, in its order. Raises AttnbenchError."""
    cut: dict[type[nn.Module], Callable[[Any], Stages]] = {
        models.VGG: _vgg,
        models.ResNet: _resnet,
        models.SqueezeNet: _squeezenet,
        models.VisionTransformer: _vit,
    }
    if type(model) in cut:
        return cut[type(model)](model)
    if isinstance(getattr(model, "features", None), nn.Sequential) and isinstance(
        getattr(model, "classifier", None), nn.Sequential
    ):
        return _features_and_classifier(name, model)
    raise AttnbenchError(
        f"torchvision/{name} cannot be cut into stages; VGG, ResNet, SqueezeNet, MobileNet, ViT and "
        "networks of `features` and `classifier` (AlexNet, EfficientNet, ConvNeXt) can"
    )


def _vgg(model: models.VGG) -> Stages:
    stages = {f"block{n}": block for n, block in enumerate(_blocks(model.features), start=1)}
    first, second, head = model.classifier[:3], model.classifier[3:6], model.classifier[6]
    pool = nn.Sequential(model.avgpool, nn.Flatten())
    return stages | {"pool": pool, "fc1": first, "fc2": second, "head": head}


def _blocks(features: nn.Sequential) -> Iterator[nn.Sequential]:
    """Cut a sequence behind each of its max-pools."""
    block: list[nn.Module] = []
    for module in features:
        block.append(module)
        if isinstance(module, nn.MaxPool2d):
            yield nn.Sequential(*block)
            block = []
    if block:
        yield nn.Sequential(*block)


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
    stages: Stages = {f"block{n}": each for n, each in enumerate(_blocks(model.features), start=1)}
    return stages | {"head": nn.Sequential(*model.classifier, nn.Flatten())}


def _vit(model: models.VisionTransformer) -> Stages:
    encoder = model.encoder
    stages: Stages = {"tokens": TokensOfImage(model)}
    stages |= {f"block{n}": block for n, block in enumerate(encoder.layers, start=1)}
    return stages | {"norm": nn.Sequential(encoder.ln, ClassToken()), "head": model.heads}


def _features_and_classifier(name: str, model: Any) -> Stages:
    """Networks that run features, a global pool and a classifier, such as MobileNet."""
    stages: Stages = {f"block{n}": module for n, module in enumerate(model.features, start=1)}
    *neck, head = model.classifier
    pool: nn.Module = getattr(model, "avgpool", None) or nn.AdaptiveAvgPool2d(1)
    flatten = [] if isinstance(model, models.ConvNeXt) else [nn.Flatten()]
    stages |= {"pool": nn.Sequential(pool, *flatten, *neck), "head": head}
    images = torch.zeros(1, 3, 224, 224)
    with torch.no_grad():
        same = torch.equal(nn.Sequential(*stages.values())(images), model(images))
    if not same:
        raise AttnbenchError(f"torchvision/{name} is more than its features and its classifier")
    return stages


def _published_weights(name: str) -> Any:
    known = models.get_model_weights(name)
    return getattr(known, "IMAGENET1K_V1", None) or next(iter(known))


def _load_weights(model: nn.Module, name: str, weights: Any, data: Path | None) -> str:
    """Load the weights; what their file says of the preprocessing they were trained with."""
    files = sorted((data / "weights").glob(f"{name}-*.safetensors")) if data is not None else []
    said = ""
    try:
        if files:
            state = safetensors.torch.load_file(files[0])
            with safetensors.safe_open(files[0], "pt") as file:
                said = (file.metadata() or {}).get("preprocess", "")
        else:
            state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        where = files[0] if files else f"torchvision's {name}"
        raise AttnbenchError(
            f"the weights of {where} cannot be had ({error}); put them at "
            f"DIR/weights/{name}-imagenet.safetensors and give --data DIR"
        ) from None
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise AttnbenchError(
            f"{files[0] if files else name} does not hold the weights of {name}: {error}"
        ) from None
    return said
