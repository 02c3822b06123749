"""Importing the libraries of submissions in the fork server, once for all workers."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterable

import torch

from attnbench.errors import AttnbenchError
from attnbench.isolation.visible_paths import HIDDEN_PACKAGES


def import_libraries(modules: Iterable[str]) -> None:
    """Import modules that workers will inherit.

    An import that fails is left out, and so is a module that is hidden from workers: the worker of the
    submission that needs the module will fail in its own import, and only that submission.

    Args:
        modules: the names of modules of installed distributions.

    Raises:
        AttnbenchError: if a module cannot be shared. It imports a package that is hidden from
            workers, starts threads, which a fork does not copy, uses the GPU, which a fork cannot, or
            changes settings of PyTorch, which other submissions would inherit.
    """
    for module in modules:
        if module.startswith(HIDDEN_PACKAGES):
            continue
        threads, settings = threading.active_count(), _settings()
        try:
            importlib.import_module(module)
        except (Exception, SystemExit):
            continue
        if why := _why_not_shared(threads, settings):
            raise AttnbenchError(
                f"the module {module} cannot be imported once for all workers: it {why}. Remove its "
                "library from `libraries` in submission.toml; then each worker imports it itself"
            )


def _settings() -> tuple[object, ...]:
    """Return PyTorch's settings that change what every other submission of a run computes."""
    return (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
    )


def _why_not_shared(threads: int, settings: tuple[object, ...]) -> str:
    """Say why workers cannot inherit what was imported; or nothing.

    Args:
        threads: the number of threads before.
        settings: PyTorch's settings before.
    """
    hidden = [name for name in HIDDEN_PACKAGES if name in sys.modules]
    if hidden:
        return f"imports {hidden[0]}, which workers must not have"
    if threading.active_count() > threads:
        return "starts threads when it is imported"
    if _settings() != settings:
        return "changes settings of PyTorch when it is imported"
    used_gpu: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return "uses the GPU when it is imported" if used_gpu else ""
