"""Observing the precision that products and convolutions are computed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# The operations of matrix products, and what the names of related operations begin with.
_PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot", "linear"}
_FAMILIES = ("convolution", "_scaled_dot_product", "mkldnn_rnn", "_cudnn_rnn")


class PrecisionObserver(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, notes the precision of each matrix product and convolution.

    Modules, autograd, autocast and `torch.func` all end in the operations that it sees. It changes
    none of them.

    Attributes:
        observed: `float32`, `bfloat16`, `float16`, `float64`; `tf32` for float32 numbers that a GPU
            multiplies in that precision. PyTorch's settings also allow `bf16` for float32 numbers on
            a CPU, which is `bfloat16` here.
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
        name = func.overloadpacket.__name__
        if name in _PRODUCTS or name.startswith(_FAMILIES):
            operand = next(arg for arg in args if isinstance(arg, Tensor))
            if operand.is_floating_point():
                self.observed.add(_precision(operand, name.startswith("convolution")))
        return func(*args, **(kwargs or {}))


def _precision(operand: Tensor, is_convolution: bool) -> str:
    """Return the precision in which a tensor is multiplied under PyTorch's current settings."""
    name = str(operand.dtype).removeprefix("torch.")
    if name != "float32":
        return name
    internal = _internal_precision(operand.device.type, is_convolution)
    return {"tf32": "tf32", "bf16": "bfloat16"}.get(internal, name)


def _internal_precision(device: str, is_convolution: bool) -> str:
    """Return PyTorch's setting for products of float32 numbers, such as `tf32`, `bf16` or `none`."""
    backends: Any = torch.backends
    if device == "cuda":
        if torch.cuda.get_device_capability() < (8, 0):
            return "none"  # the settings have no effect on these GPUs
        backend = backends.cudnn if is_convolution else backends.cuda.matmul
        if not hasattr(backends, "fp32_precision"):  # before torch 2.9
            return "tf32" if backend.allow_tf32 else "none"
        return str((backends.cudnn.conv if is_convolution else backend).fp32_precision)
    if device != "cpu" or not hasattr(backends, "fp32_precision"):
        return "none"
    cpu = backends.mkldnn
    return str((cpu.conv if is_convolution else cpu.matmul).fp32_precision)
