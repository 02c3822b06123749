"""Large linear layers on a processor, such as VGG's: oneDNN is quicker at them than PyTorch is."""

from __future__ import annotations

from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, nn

from attnbench.adaptation.bfloat16 import layers_of

# Parameters. From so many on reading them takes most of the time; of smaller layers, those of all
# networks that figures are on record of among them, nothing changes.
_LARGE = 4 << 20


def with_large_layers(network: nn.Module) -> nn.Sequential:
    """The same layers one after the other, large linear ones that learn nothing computed by oneDNN.

    Gradients go back through them to what they are given. Shares all parameters; stays in float32, and
    differs from PyTorch's by rounding. A product of few rows with so large a matrix takes about
    half of PyTorch's time there (docs/performance.md).
    """
    return nn.Sequential(
        *(_Large(each) if _is_large(each) else each for each in layers_of(network))
    )


def _is_large(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a layer is one that oneDNN is to compute."""
    if type(layer) is not nn.Linear or any(each.requires_grad for each in layer.parameters()):
        return False
    weight = layer.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or weight.numel() < _LARGE:
        return False
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


class _Large(nn.Module):
    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, rows: Tensor) -> Tensor:
        return cast(Tensor, _Product.apply(rows, self.layer.weight, self.layer.bias))


class _Product(torch.autograd.Function):
    """rows @ weight.T + bias, differentiable in the rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _product(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,), (weight,) = gradients, ctx.saved_tensors
        return _product(gradient, weight.t(), None), None, None


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    joined = torch.ops.mkldnn._linear_pointwise
    return cast(Tensor, joined(rows, weight, bias, "none", [], ""))
