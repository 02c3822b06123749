"""Narrow versions of torchvision's ViT and ResNet, for small pictures."""

from __future__ import annotations

from torch import nn
from torchvision.models import VisionTransformer
from torchvision.models.resnet import BasicBlock
from torchvision.ops import Conv2dNormActivation

from attnbench.backbones.stage_splitting import Stages
from attnbench.backbones.torchvision_models import stages_of

_RESNET_WIDTHS = (16, 32, 64, 96)


def narrow_vit(classes: int, size: int) -> Stages:
    """Return a vision transformer of four blocks with 64 channels and 4 heads.

    Its patches are 8 x 8 pixels. Its stages are named like those of `torchvision/vit_b_16`.

    Args:
        classes: the number of outputs.
        size: height and width of its images in pixels, a multiple of 8.
    """
    vit = VisionTransformer(
        image_size=size,
        patch_size=8,
        num_layers=4,
        num_heads=4,
        hidden_dim=64,
        mlp_dim=256,
        num_classes=classes,
    )
    return stages_of("vit", vit, size)


def narrow_resnet(classes: int) -> Stages:
    """Return a residual network of four blocks, each with two convolutions and batch norms.

    Its stages are named like those of `torchvision/resnet18`. The blocks are those of torchvision,
    whose `ResNet` has at least 64 channels.

    Args:
        classes: the number of outputs.
    """
    channels = _RESNET_WIDTHS[0]
    stages: Stages = {"stem": nn.Sequential(Conv2dNormActivation(3, channels), nn.MaxPool2d(2))}
    for number, width in enumerate(_RESNET_WIDTHS, start=1):
        stride, shortcut = 1, None
        if width != channels:
            stride = 2
            shortcut = Conv2dNormActivation(channels, width, 1, stride, activation_layer=None)
        stages[f"layer{number}"] = nn.Sequential(BasicBlock(channels, width, stride, shortcut))
        channels = width
    stages["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return stages | {"head": nn.Linear(channels, classes)}
