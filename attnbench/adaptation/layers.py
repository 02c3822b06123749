"""Layers that submissions put into a network, and how they get there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from attnbench.adaptation.stages import stages_with_maps, width
from attnbench.backbones.backbone import Backbone

Kind = TypeVar("Kind", bound=nn.Module)
Put = TypeVar("Put", bound=nn.Module)


def per_channel(values: Tensor, features: Tensor) -> Tensor:
    """Values for channels, shaped so that they meet those of `features`.

    Args:
        values: `[c]`, or `[n, c]` where each image has its own, as `gauss_newton` asks for.
        features: maps `[n, c, h, w]`, tokens `[n, t, c]` or vectors `[n, c]`.
    """
    rows = values.view(-1, values.shape[-1])
    match features.dim():
        case 4:
            return rows[:, :, None, None]
        case 3:
            return rows[:, None]
        case _:
            return rows


class Gains(nn.Module):
    """Multiplies each channel of maps, tokens or vectors by a gain of its own.

    Args:
        gains: `[c]`; all one where a channel starts as it is.
    """

    def __init__(self, gains: Tensor) -> None:
        super().__init__()
        self.gains = nn.Parameter(gains)

    def forward(self, features: Tensor) -> Tensor:
        return features * per_channel(self.gains, features)


class Shift(nn.Module):
    """Adds a number to one output of `[n, outputs]`: to a target's logit, and so to its log-odds."""

    def __init__(self, output: int) -> None:
        super().__init__()
        self.output = output
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, outputs: Tensor) -> Tensor:
        only = torch.zeros_like(outputs[:1])
        only[:, self.output] = 1
        return outputs + only * self.bias.view(-1, 1)


def replace(network: nn.Module, kind: type[Kind], by: Callable[[Kind], Put]) -> list[Put]:
    """Put `by(module)` into the place of every module of a kind within `network`.

    Args:
        network: changed in place.
        kind: which modules; subclasses too.
        by: what to put there; it may hold the module itself, such as `nn.Sequential(module, gain)`.

    Returns:
        What was put there, in the network's order.
    """
    found = [(name, each) for name, each in network.named_modules() if isinstance(each, kind)]
    put = []
    for name, module in found:
        parent, _, child = name.rpartition(".")
        put.append(by(module))
        setattr(network.get_submodule(parent), child, put[-1])
    return put


def behind_filters(backbone: Backbone, image: Tensor, make: Callable[[int], Put]) -> list[Put]:
    """Put a layer behind every convolution; in a transformer, behind every block.

    Where batch norm follows the convolutions, behind that: before it, a gain would shift as well.

    Args:
        backbone: changed in place.
        image: `[1, 3, h, w]`; the layers go to its device.
        make: the layer for a number of channels.

    Returns:
        The layers, in the network's order.
    """
    shapes = stages_with_maps(backbone, image)
    tokens = [name for name, shape in shapes.items() if len(shape) == 2]
    if tokens:
        # The first stage makes the tokens, the others are the blocks.
        layers = {name: make(width(shapes[name])).to(image.device) for name in tokens[1:]}
        for name, layer in layers.items():
            backbone.set_submodule(name, nn.Sequential(backbone.stage(name), layer))
        return list(layers.values())

    put: list[Put] = []

    def followed(module: nn.Module) -> nn.Module:
        put.append(make(len(module.get_parameter("weight"))).to(image.device))
        return nn.Sequential(module, put[-1])

    normalised = any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    replace(backbone, nn.BatchNorm2d if normalised else nn.Conv2d, followed)
    return put
