"""Layers that methods insert into a network, and helpers to walk through it and replace modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from attnbench.adaptation.stages import num_channels, stages_with_maps
from attnbench.backbones.backbone import Backbone

Original = TypeVar("Original", bound=nn.Module)
Inserted = TypeVar("Inserted", bound=nn.Module)


def flatten_sequential(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of a network in the order in which they run.

    Nested `nn.Sequential` containers are flattened, and those of subclasses that inherit its
    `forward`. Any other module counts as one layer.
    """
    if isinstance(network, nn.Sequential) and type(network).forward is nn.Sequential.forward:
        for layer in network:
            yield from flatten_sequential(layer)
    else:
        yield network


def broadcast_channels(values: Tensor, features: Tensor) -> Tensor:
    """Return one value per channel in a shape that broadcasts over `features`.

    Args:
        values: `[c]`, or `[n, c]` with one row per image, as `fit_gauss_newton` requires.
        features: maps `[n, c, h, w]`, tokens `[n, t, c]` or vectors `[n, c]`.

    Returns:
        `[k, c, 1, 1]`, `[k, 1, c]` or `[k, c]`, where k is 1 or n.
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
    """Multiply each channel of maps, tokens or vectors by its own gain.

    Args:
        gains: `[c]`. A gain of one leaves its channel unchanged.
    """

    def __init__(self, gains: Tensor) -> None:
        super().__init__()
        self.gains = nn.Parameter(gains)

    def forward(self, features: Tensor) -> Tensor:
        return features * broadcast_channels(self.gains, features)


class OutputBias(nn.Module):
    """Add a learned scalar, zero at first, to one column of outputs `[n, outputs]`.

    Added to the target's logit, it adds the same amount to the target's log-odds. It is a
    threshold.

    Args:
        output: the index of the column.
    """

    def __init__(self, output: int) -> None:
        super().__init__()
        self.output = output
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, outputs: Tensor) -> Tensor:
        one_hot = torch.zeros_like(outputs[:1])
        one_hot[:, self.output] = 1
        # `fit_gauss_newton` passes one bias per image, `[n]`. Otherwise it is a scalar.
        return outputs + one_hot * self.bias.view(-1, 1)


def replace_modules(
    network: nn.Module, kind: type[Original], make: Callable[[Original], Inserted]
) -> list[Inserted]:
    """Replace every module of one type by `make(module)`.

    Args:
        network: changed in place.
        kind: the type to replace, including its subclasses.
        make: returns the replacement, which may contain the module itself, as does
            `nn.Sequential(module, gains)`.

    Returns:
        The replacements, in the network's order.
    """
    # The list is complete before anything changes: a replacement may contain the module it
    # replaces, which must not be visited again.
    originals = [
        (name, module) for name, module in network.named_modules() if isinstance(module, kind)
    ]
    replacements = []
    for name, module in originals:
        parent, _, child = name.rpartition(".")
        replacements.append(make(module))
        setattr(network.get_submodule(parent), child, replacements[-1])
    return replacements


def insert_after_convolutions(
    backbone: Backbone, image: Tensor, make: Callable[[int], Inserted]
) -> list[Inserted]:
    """Insert a layer after every convolution, or after every block of a transformer.

    If the network has batch norm, the layers follow the batch norms instead. A gain in front of a
    batch norm would also shift its output.

    Args:
        backbone: changed in place.
        image: `[1, 3, h, w]`. The layers are moved to its device.
        make: returns the layer for a number of channels.

    Returns:
        The layers, in the network's order.
    """
    shapes = stages_with_maps(backbone, image)
    token_stages = [name for name, shape in shapes.items() if len(shape) == 2]
    if token_stages:
        # The first of these stages embeds the patches. The others are the transformer's blocks.
        layers = {
            name: make(num_channels(shapes[name])).to(image.device) for name in token_stages[1:]
        }
        for name, layer in layers.items():
            backbone.set_submodule(name, nn.Sequential(backbone.stage(name), layer))
        return list(layers.values())

    inserted: list[Inserted] = []

    def followed_by_layer(module: nn.Module) -> nn.Module:
        inserted.append(make(len(module.get_parameter("weight"))).to(image.device))
        return nn.Sequential(module, inserted[-1])

    has_batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    replace_modules(backbone, nn.BatchNorm2d if has_batch_norm else nn.Conv2d, followed_by_layer)
    return inserted
