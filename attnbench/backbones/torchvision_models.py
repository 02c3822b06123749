"""torchvision's classifiers as named stages: VGG, ResNet, SqueezeNet, ViT, MobileNet and more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torchvision
from torch import Tensor, nn
from torchvision import models

from attnbench.backbones.backbone import Preprocessing
from attnbench.backbones.imagenet import WNIDS
from attnbench.backbones.network import Network, build_with_fixed_seed
from attnbench.backbones.published_weights import read_torch_cache
from attnbench.backbones.stage_splitting import (
    ClassToken,
    Stages,
    blocks_of,
    features_and_head,
    sequential_stages,
    split_into_stages,
)
from attnbench.errors import AttnbenchError
from attnbench.text import did_you_mean


def torchvision_network(name: str, outputs: int | None = None) -> Network:
    """Return a torchvision classifier with weights initialised with seed 0.

    Args:
        name: torchvision's name, such as `vgg16`.
        outputs: the number of outputs; by default the 1,000 classes of ImageNet.

    Raises:
        AttnbenchError: if torchvision has no such network.
    """
    known = models.list_models(module=models)
    if name not in known:
        raise AttnbenchError(
            f"torchvision {torchvision.__version__} has no classifier {name!r}"
            f"{did_you_mean(name, known, ': ')} (known: {', '.join(known)})"
        )
    weights = _published_weights(name)
    options = {} if outputs is None else {"num_classes": outputs}
    preset = weights.transforms()
    return Network(
        name=f"torchvision/{name}",
        model=build_with_fixed_seed(lambda: models.get_model(name, weights=None, **options)),
        labels=WNIDS,
        preprocessing=Preprocessing(
            size=preset.crop_size[0],
            resize=preset.resize_size[0],
            mean=tuple(preset.mean),
            std=tuple(preset.std),
        ),
        split=lambda model, size: stages_of(name, model, size),
        download=lambda: _download(weights),
    )


def _download(weights: Any) -> Mapping[str, Tensor]:
    tensors = read_torch_cache(weights.url)
    if tensors is None:
        weights.get_state_dict(progress=False, check_hash=True)
        tensors = read_torch_cache(weights.url)
    return tensors or {}


class TokenEmbedding(nn.Module):
    """The input of torchvision's ViT: patches, class token and position embedding.

    Args:
        vit: the network whose modules and parameters are used.
    """

    def __init__(self, vit: models.VisionTransformer) -> None:
        super().__init__()
        self.conv_proj = vit.conv_proj
        self.class_token = vit.class_token
        self.pos_embedding = vit.encoder.pos_embedding
        self.dropout = vit.encoder.dropout

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens `[n, 1 + patches, d]` of images `[n, 3, H, W]`."""
        patches = self.conv_proj(images).flatten(2).permute(0, 2, 1)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1)
        return cast(Tensor, self.dropout(tokens + self.pos_embedding))


def stages_of(name: str, model: nn.Module, size: int) -> Stages:
    """Return the stages of a torchvision classifier, in the order in which they run.

    VGG, ResNet, SqueezeNet and ViT have stages with their customary names. Other networks are split
    by the types of their modules, at worst into the last layer and everything before it.

    Args:
        name: the network's name, for the error message.
        model: the network, in eval mode. It is not changed, and its tensors are those of the stages.
        size: height and width of its images, in pixels.

    Raises:
        AttnbenchError: if the network cannot be split.
    """
    known: dict[type[nn.Module], Callable[[Any], Stages]] = {
        models.VGG: _vgg_stages,
        models.ResNet: _resnet_stages,
        models.SqueezeNet: _squeezenet_stages,
        models.VisionTransformer: _vit_stages,
    }
    if type(model) in known:
        return known[type(model)](model)
    splitters: tuple[Callable[[Any], Stages], ...] = (features_and_head,)
    # Submissions take a 4-dimensional stage output for `[n, c, h, w]`; Swin has its channels last.
    if not isinstance(model, models.SwinTransformer):
        splitters = (_mobilenet_stages, sequential_stages, features_and_head)
    return split_into_stages(f"torchvision/{name}", model, size, splitters)


def _vgg_stages(model: models.VGG) -> Stages:
    stages = {
        f"block{number}": block for number, block in enumerate(blocks_of(model.features), start=1)
    }
    first, second, head = model.classifier[:3], model.classifier[3:6], model.classifier[6]
    pool = nn.Sequential(model.avgpool, nn.Flatten())
    return stages | {"pool": pool, "fc1": first, "fc2": second, "head": head}


def _resnet_stages(model: models.ResNet) -> Stages:
    return {
        "stem": nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool),
        "layer1": model.layer1,
        "layer2": model.layer2,
        "layer3": model.layer3,
        "layer4": model.layer4,
        "pool": nn.Sequential(model.avgpool, nn.Flatten()),
        "head": model.fc,
    }


def _squeezenet_stages(model: models.SqueezeNet) -> Stages:
    stages: Stages = {
        f"block{number}": block for number, block in enumerate(blocks_of(model.features), start=1)
    }
    return stages | {"head": nn.Sequential(*model.classifier, nn.Flatten())}


def _vit_stages(model: models.VisionTransformer) -> Stages:
    encoder = model.encoder
    stages: Stages = {"tokens": TokenEmbedding(model)}
    stages |= {f"block{number}": block for number, block in enumerate(encoder.layers, start=1)}
    return stages | {"norm": nn.Sequential(encoder.ln, ClassToken()), "head": model.heads}


def _mobilenet_stages(model: Any) -> Stages:
    """Split a network of `features`, global pooling and `classifier`, such as MobileNet."""
    stages: Stages = {
        f"block{number}": module for number, module in enumerate(model.features, start=1)
    }
    *neck, head = model.classifier
    pool: nn.Module = getattr(model, "avgpool", None) or nn.AdaptiveAvgPool2d(1)
    # ConvNeXt's classifier flattens for itself, after a normalisation that needs the maps.
    flatten = [] if isinstance(model, models.ConvNeXt) else [nn.Flatten()]
    return stages | {"pool": nn.Sequential(pool, *flatten, *neck), "head": head}


def _published_weights(name: str) -> Any:
    """Return the network's original ImageNet-1k weights, or its first weights if it has none."""
    weights = models.get_model_weights(name)
    return getattr(weights, "IMAGENET1K_V1", None) or next(iter(weights))
