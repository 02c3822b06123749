"""What cannot be delivered to the process that predicts, and what to write instead."""

from __future__ import annotations

import sys
from functools import cache
from types import FunctionType

import safetensors.torch
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from attnbench.text import with_article

_DELIVERED = "cannot be delivered to the process that predicts"


def why_not_module(module: nn.Module) -> str:
    """Say why a module cannot be delivered, and what to write instead; empty if it can be.

    Args:
        module: any module of a detector.
    """
    dynamo = sys.modules.get("torch._dynamo")  # slow to import, and nobody else makes such modules
    if dynamo is not None and isinstance(module, dynamo.OptimizedModule):
        return (
            "the detector holds a module compiled by torch.compile, which would be compiled again in "
            "the process that predicts, within its time: return the module itself"
        )
    if isinstance(module, torch.jit.ScriptModule):
        return f"the detector holds a ScriptModule, which {_DELIVERED}: return the module itself"
    if parametrize.is_parametrized(module):
        (name, *_) = module.parametrizations  # type: ignore[misc]
        return (
            f"the detector holds a module with a parametrization of {name!r}, which {_DELIVERED}: call "
            f"`torch.nn.utils.parametrize.remove_parametrizations(module, {name!r})` once it is trained"
        )
    return ""


def why_not_tensor(tensor: Tensor) -> str:
    """Say why a tensor cannot be delivered, and what to write instead; empty if it can be.

    Args:
        tensor: any tensor of a detector.
    """
    if nn.parameter.is_lazy(tensor):
        kind, remedy = "a lazy parameter without values", "call the detector on `pos[:1]` first"
    elif tensor.device.type == "meta":
        kind, remedy = "a tensor on the device meta", "create it with `device=pos.device`"
    elif tensor.is_quantized:
        kind = f"a quantised tensor ({tensor.dtype})"
        remedy = "return the module before it is quantised, or keep `tensor.dequantize()`"
    elif tensor.is_nested:
        kind, remedy = "a nested tensor", "keep `tensor.to_padded_tensor(0)`"
    elif tensor.layout != torch.strided:
        kind, remedy = f"a sparse tensor ({tensor.layout})", "keep `tensor.to_dense()`"
    elif not _can_be_stored(tensor.dtype):
        kind, remedy = f"a tensor of type {tensor.dtype}", "convert it to another type"
        if tensor.is_complex():
            remedy = "keep `tensor.to(torch.complex64)`"
    else:
        return ""
    return f"the detector holds {kind}, which {_DELIVERED}: {remedy}"


def why_unpicklable(obj: object, detector: nn.Module, error: Exception) -> str:
    """Say why a detector cannot be pickled, and what to write instead.

    Args:
        obj: the object that cannot be pickled.
        detector: the detector.
        error: the exception that says so.
    """
    what, remedy = with_article(type(obj).__name__), "keep tensors, numbers, text and modules in it"
    if isinstance(error, RecursionError):
        what, remedy = (
            "objects that refer to one another in a very long chain",
            "keep them in lists",
        )
    elif hasattr(obj, "_torchdynamo_orig_callable"):
        what, remedy = "a function compiled by torch.compile", "keep the function itself"
    elif isinstance(obj, type | FunctionType) and "<" in obj.__qualname__:
        is_lambda = obj.__name__ == "<lambda>"
        what = "a lambda" if is_lambda else f"{obj.__name__!r}, which is defined in a function"
        remedy = "define it at the top level of the file"
    # Such a module can hold its graphs beside the code that is made from one of them.
    is_of_graph = isinstance(error, RecursionError) or _is_of_torch(obj)
    if is_of_graph and any(isinstance(module, fx.GraphModule) for module in detector.modules()):
        remedy = "write `torch.fx.GraphModule(extractor, extractor.graph)`, which keeps code only"
    return (
        f"the detector holds {what}, and so cannot be delivered to the process that predicts: "
        f"{remedy} ({type(error).__name__}: {str(error)[:200]})"
    )


def _is_of_torch(obj: object) -> bool:
    return (getattr(obj, "__module__", None) or "").partition(".")[0] == "torch"


@cache
def _can_be_stored(dtype: torch.dtype) -> bool:
    """Whether a safetensors file can hold tensors of this type."""
    try:
        safetensors.torch.save({"empty": torch.empty(0, dtype=dtype)})
    except KeyError:
        return False
    return True
