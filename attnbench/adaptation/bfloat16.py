"""Layers that are not trained in bfloat16, on devices that multiply matrices in it natively."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn

# A network with fewer parameters stays in float32: figures are then the same on every processor. Of
# MobileNetV2, which has 3.5 million, bfloat16 changes what `attention` finds (docs/performance.md), and
# of SqueezeNet 1.1, which has 1.2, it saves less than a millisecond an image. VGG-16 up to its fourth
# block has 7.6.
_WORTH_IT = 5_000_000


def pays_in_bfloat16(network: nn.Module, device: torch.device) -> bool:
    """Whether a network is large enough, and a device has units that multiply matrices in bfloat16.

    That is a GPU from compute capability 8, or a CPU with AMX or AVX512_BF16.
    """
    large = sum(each.numel() for each in network.parameters()) >= _WORTH_IT
    return large and multiplies_bfloat16(device)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device has units that multiply matrices in bfloat16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def in_bfloat16(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """As many layers that compute the same in bfloat16, and take rows of any dtype.

    A layer is copied when it is first called. Where oneDNN can, a convolution and the ReLU behind it
    are computed both at once, and the second is left with nothing to do.
    """
    quick: list[nn.Module] = []
    for n, layer in enumerate(layers):
        before = layers[n - 1] if n else None
        if _may_join(before, layer):
            quick[-1] = _ConvolutionAndReLU(cast(nn.Conv2d, before))
            quick.append(nn.Identity())
        else:
            quick.append(_InBfloat16(layer))
    return quick


def with_quick_convolutions(network: nn.Module) -> nn.Sequential:
    """The same layers one after the other, in bfloat16 where they have maps but learn nothing.

    For a network through which others are trained: gradients go back through it. It shares all
    parameters, and gives what each layer says in float32. Linear layers stay as they are: to copy the
    large ones takes longer than they do.
    """
    quick: list[nn.Module] = []
    for layer in layers_of(network):
        parameters = list(layer.parameters())
        learns = any(each.requires_grad for each in parameters)
        as_it_is = learns or not parameters or isinstance(layer, nn.Linear)
        quick.append(layer if as_it_is else _InBfloat16(layer, torch.float32))
    return nn.Sequential(*quick)


def layers_of(network: nn.Module) -> Iterator[nn.Module]:
    """The layers that run one after the other: the parts of sequences, and of sequences in them."""
    if isinstance(network, nn.Sequential) and type(network).forward is nn.Sequential.forward:
        for each in network:
            yield from layers_of(each)
    else:
        yield network


def _may_join(first: nn.Module | None, second: nn.Module) -> bool:
    """Whether these are a convolution, with numbers for its padding, and a ReLU, on a CPU for which
    oneDNN has convolutions in bfloat16 (not one with AVX2 only)."""
    if type(first) is not nn.Conv2d or type(second) is not nn.ReLU:
        return False
    plain = first.padding_mode == "zeros" and not isinstance(first.padding, str)
    on_cpu = first.weight.device.type == "cpu"
    return plain and on_cpu and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _InBfloat16(nn.Module):
    """A layer that takes rows of any dtype, computes in bfloat16, and gives `dtype`."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.layer = layer
        self.dtype = dtype

    @cached_property
    def quick(self) -> nn.Module:
        return copy.deepcopy(self.layer).to(torch.bfloat16)

    def forward(self, rows: Tensor) -> Tensor:
        return cast(Tensor, self.quick(rows.to(torch.bfloat16))).to(self.dtype)


class _ConvolutionAndReLU(nn.Module):
    """max(0, convolution) as oneDNN computes it in one go: maps are written once, not twice.

    The weights are laid out as it wants them once, not for each batch. `torch.compile` does the same
    to such layers, but takes longer than an adaptation.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        each = self.convolution = convolution
        self.how = (each.padding, each.stride, each.dilation, each.groups)

    @cached_property
    def weight(self) -> Tensor:
        weight = self.convolution.weight.detach().to(torch.bfloat16).to_mkldnn()
        return cast(Tensor, torch.ops.aten.mkldnn_reorder_conv2d_weight(weight, *self.how))

    @cached_property
    def bias(self) -> Tensor | None:
        bias = self.convolution.bias
        return None if bias is None else bias.detach().to(torch.bfloat16)

    def forward(self, images: Tensor) -> Tensor:
        rows = images.to(torch.bfloat16)
        joined = torch.ops.mkldnn._convolution_pointwise
        return cast(Tensor, joined(rows, self.weight, self.bias, *self.how, "relu", [], ""))
