"""What the contract asks of a submission's code, and what to write where the code breaks it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnbench.sandbox.failures import ContractViolation
from attnbench.text import did_you_mean, with_article

Scores = NDArray[np.float32]


def find_adapt(definitions: Mapping[str, Any]) -> Callable[..., object]:
    """Return the function `adapt` of a submission.

    Args:
        definitions: the names that its `submission.py` defines.

    Raises:
        ContractViolation: if there is none.
    """
    adapt: object = definitions.get("adapt")
    if callable(adapt):
        return adapt
    functions = [name for name, value in definitions.items() if inspect.isfunction(value)]
    near = get_close_matches("adapt", functions, n=1)
    raise ContractViolation(
        "submission.py defines no function adapt(backbone, pos, neg)"
        + (f": rename {near[0]!r}" if near else ": write one, as `attnbench new` does")
    )


def checked_detector(returned: object, place: str) -> nn.Module:
    """Return what `adapt` returned, which must be a module.

    Args:
        returned: what it returned.
        place: where it is defined (see `attnbench.sandbox.places`).

    Raises:
        ContractViolation: for anything else.
    """
    if isinstance(returned, nn.Module):
        return returned
    match returned:
        case None:
            remedy = "end it with `return detector`"
        case type():
            remedy = f"write `return {returned.__name__}(…)`"
        case Tensor():
            remedy = "return a module that computes scores for any images, not the scores of some"
        case tuple() | list() | dict():
            remedy = "return the detector alone"
        case _ if callable(returned):
            remedy = "write a class whose `forward(self, images)` does what the function does"
        case _:
            remedy = "see `attnbench new`"
    raise ContractViolation(
        f"{place}adapt returned {_kind(returned)}; it must return an nn.Module: {remedy}"
    )


def call_mismatch(adapt: Callable[..., object], settings: Mapping[str, object]) -> str:
    """Say why `adapt` cannot be called with these settings, and what to write instead.

    Args:
        adapt: the function.
        settings: the hyperparameters of the manifest.

    Returns:
        One line; empty if the call fits the function's signature.
    """
    signature = inspect.signature(adapt)
    try:
        signature.bind(None, None, None, **settings)
        return ""
    except TypeError as mismatch:
        problem = str(mismatch)
    names = list(signature.parameters)[3:]
    missing = [name for name in names if name not in settings]
    for name in settings:
        if name not in names:
            remedy = did_you_mean(name, missing or names)
            remedy = remedy or "add it to adapt, or remove it from [hyperparameters]"
            return f"adapt has no argument {name!r}, which submission.toml gives it: {remedy}"
    if "missing a required" in problem:
        return (
            f"adapt is called without one of its arguments ({problem}): add it to [hyperparameters] in "
            "submission.toml, or give it a default value"
        )
    return (
        f"adapt is called with three arguments ({problem}): write `def adapt(backbone, pos, neg):`"
    )


def checked_outputs(
    values: object, expected: tuple[int | None, ...], name: str, place: str
) -> Scores:
    """Return outputs of a detector as a float32 array of the expected shape.

    Args:
        values: what the detector returned.
        expected: the size of each dimension; None for any size. The first is the number of images.
        name: `scores` or `logits`.
        place: where the detector is defined.

    Raises:
        ContractViolation: for anything other than a tensor of floating-point numbers of that shape.
    """
    if not isinstance(values, Tensor):
        raise ContractViolation(
            f"{place}the detector returned {_kind(values)}; it must return a tensor of {name}"
            + (": compute them with torch" if isinstance(values, np.ndarray | np.generic) else "")
        )
    sizes = zip(values.shape, expected, strict=False)
    if values.dim() != len(expected) or any(e is not None and n != e for n, e in sizes):
        wanted = ", ".join("any" if size is None else str(size) for size in expected)
        remedy = _instead_of(tuple(values.shape), expected[0]) if name == "scores" else ""
        raise ContractViolation(
            f"{place}the detector returned {name} of shape {list(values.shape)} for {expected[0]} "
            f"images; the shape must be [{wanted}]{remedy}"
        )
    if not values.is_floating_point():
        raise ContractViolation(
            f"{place}the detector returned {name} of type {_name_of(values.dtype)}: "
            + _instead_of_type(values.dtype)
        )
    array: Scores = values.detach().float().cpu().numpy()
    return array


def _instead_of_type(dtype: torch.dtype) -> str:
    if dtype == torch.bool:
        return "they have no order; return the decision score itself, such as `x`, not `(x > 0)`"
    if dtype.is_complex:
        return "they have no order; return real numbers, such as `x.real` or `x.abs()`"
    return (
        "return the decision score itself, a floating-point number, before it is rounded or turned "
        "into a class"
    )


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _instead_of(shape: tuple[int, ...], images: int | None) -> str:
    """Say how to turn scores of the wrong shape into one score for each image."""
    match shape:
        case (n, 1) if n == images:
            return ": write `scores.squeeze(1)`"
        case (1, n) if n == images:
            return ": write `scores.squeeze(0)`"
        case (n, 2) if n == images:
            return ": write `scores[:, 1] - scores[:, 0]`, where the second column is the target's"
        case (n, _) if n == images:
            return (
                ": take the target's, such as `attnbench.log_odds(logits, backbone.target)`, "
                "or learn a read-out with one output"
            )
        case (n, *rest) if n == images and set(rest) == {1}:
            return ": write `scores.flatten()`"
        case () if images == 1:
            return (
                ": write `squeeze(1)`, not `squeeze()`, which drops the dimension of the images too"
            )
        case ():
            return ": return a score for each image, not their mean; keep the first dimension"
        case _:
            return ": return a score for each image, in their order"


def _kind(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return with_article(type(value).__name__)
