"""Observing the precision that products and convolutions are computed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_Kind = Literal["matmul", "conv", "rnn"]

# The operations of matrix products, and what the names of related operations begin with.
_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot", "linear"}
_FAMILIES: dict[str, _Kind] = {
    "convolution": "conv",
    "mkldnn_rnn": "rnn",
    "_cudnn_rnn": "rnn",
    "_scaled_dot_product": "matmul",
    "_native_multi_head_attention": "matmul",
    "_transformer_encoder_layer": "matmul",
    "_sparse_addmm": "matmul",
}


class PrecisionObserver(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, notes the precision of each matrix product and convolution.

    Modules, autograd, autocast and `torch.func` all end in the operations that it sees. It changes
    none of them.

    Attributes:
        observed: `float32`, `bfloat16`, `float16` or `float64`. Float32 numbers count as `tf32` or
            `bfloat16` where PyTorch's settings allow them to be multiplied in that precision.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.observed: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kind = _kind(func.overloadpacket.__name__)
        if kind is not None:
            operand = next(arg for arg in args if isinstance(arg, Tensor))
            if operand.is_floating_point():
                self.observed.add(_precision(operand, kind))
        return func(*args, **(kwargs or {}))


def _kind(operation: str) -> _Kind | None:
    """Return which of PyTorch's settings applies to an operation; None if it multiplies nothing."""
    if operation.rstrip("_") in _PRODUCTS:  # in place, `addmm` is `addmm_`
        return "matmul"
    return next((kind for start, kind in _FAMILIES.items() if operation.startswith(start)), None)


def _precision(operand: Tensor, kind: _Kind) -> str:
    """Return the precision in which a tensor is multiplied under PyTorch's current settings."""
    name = str(operand.dtype).removeprefix("torch.")
    if name != "float32":
        return name
    internal = _internal_precision(operand.device.type, kind)
    return {"tf32": "tf32", "bf16": "bfloat16"}.get(internal, name)


def _internal_precision(device: str, kind: _Kind) -> str:
    """Return PyTorch's setting for products of float32 numbers, such as `tf32`, `bf16` or `none`."""
    backends: Any = torch.backends
    if device == "cuda":
        if torch.cuda.get_device_capability() < (8, 0):
            return "none"  # the settings have no effect on these GPUs
        if not hasattr(backends, "fp32_precision"):  # before torch 2.9
            backend = backends.cuda.matmul if kind == "matmul" else backends.cudnn
            return "tf32" if backend.allow_tf32 else "none"
        return str(
            getattr(backends.cuda if kind == "matmul" else backends.cudnn, kind).fp32_precision
        )
    if device != "cpu" or not hasattr(backends, "fp32_precision"):
        return "none"
    return str(getattr(backends.mkldnn, kind).fp32_precision)
