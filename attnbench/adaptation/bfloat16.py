"""Frozen layers in bfloat16, on devices that multiply matrices in it natively."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn

from attnbench.adaptation.layers import flatten_sequential

# Smaller networks stay in float32, so that their results are the same on every processor. In
# MobileNetV2, with 3.5 million parameters, bfloat16 changes what `attention` learns
# (docs/performance.md). In SqueezeNet 1.1, with 1.2 million, it saves less than a millisecond per
# image. VGG-16 up to its fourth block has 7.6 million.
_MIN_PARAMETERS = 5_000_000


def should_use_bfloat16(network: nn.Module, device: torch.device) -> bool:
    """Return whether frozen layers of `network` should run in bfloat16 on `device`.

    They should if the network has at least 5 million parameters and `supports_bfloat16(device)`.
    """
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return parameters >= _MIN_PARAMETERS and supports_bfloat16(device)


def supports_bfloat16(device: torch.device) -> bool:
    """Return whether `device` has units that multiply matrices in bfloat16.

    These are GPUs from compute capability 8.0 on, and CPUs with AMX-BF16 or AVX512-BF16.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    # `torch.cpu.get_capabilities` is missing in older versions of torch, of which 2.8 is the oldest
    # supported one. There, networks on a CPU stay in float32.
    get_capabilities = getattr(torch.cpu, "get_capabilities", None)
    if get_capabilities is None:
        return False
    capabilities = get_capabilities()
    return any(bool(capabilities.get(name, False)) for name in ("amx_bf16", "avx512_bf16"))


class Bfloat16Layer(nn.Module):
    """A layer that accepts inputs of any dtype and computes in bfloat16.

    The copy of the layer in bfloat16 is made when it is first called.

    Args:
        layer: the layer, which stays as it is.
        output_dtype: the dtype of the outputs.
    """

    def __init__(self, layer: nn.Module, output_dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.layer = layer
        self.output_dtype = output_dtype

    @cached_property
    def converted(self) -> nn.Module:
        # A convolution of channels-last inputs would convert its weights again at each call.
        converted = copy.deepcopy(self.layer).to(torch.bfloat16)
        return converted.to(memory_format=torch.channels_last)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = cast(Tensor, self.converted(inputs.to(torch.bfloat16)))
        return outputs.to(self.output_dtype)


def frozen_layers_in_bfloat16(network: nn.Module) -> nn.Sequential:
    """Return the layers of `network` with the frozen ones in bfloat16.

    Layers without parameters, layers that are trained and linear layers stay as they are: copying
    a large linear layer takes longer than running it. Every layer returns float32 and shares its
    parameters with `network`, and gradients flow back through all of them.
    """
    layers: list[nn.Module] = []
    for layer in flatten_sequential(network):
        parameters = list(layer.parameters())
        is_trained = any(parameter.requires_grad for parameter in parameters)
        unchanged = is_trained or not parameters or isinstance(layer, nn.Linear)
        layers.append(layer if unchanged else Bfloat16Layer(layer, torch.float32))
    return nn.Sequential(*layers)
