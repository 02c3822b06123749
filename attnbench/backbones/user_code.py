"""Calling the user's function that returns a network. This code runs in the evaluator."""

from __future__ import annotations

import hashlib
import importlib
import io
import pickle
import sys
import traceback
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from attnbench.backbones.network import build_with_fixed_seed
from attnbench.errors import AttnbenchError


def call_function(place: Path | str, name: str) -> nn.Module:
    """Return the network that a function makes, with PyTorch's seed 0 and in eval mode.

    A file is imported on its own: it can import installed packages, but not files beside it.
    Wrappers by `nn.DataParallel` and `torch.compile` are removed.

    Args:
        place: a Python file, or the name of an installed module.
        name: the function, which takes no arguments.

    Raises:
        AttnbenchError: if the file or function does not exist or fails, or returns something else
            than a network.
    """
    source = f"{place}:{name}"
    try:
        module = _import_file(place) if isinstance(place, Path) else importlib.import_module(place)
    except (Exception, SystemExit) as error:  # a script that was not meant to be imported may exit
        raise _failed(f"cannot import {place}", place, error) from None
    function = getattr(module, name, None)
    if not callable(function):
        raise AttnbenchError(f"{place} has no function {name!r}")

    def build() -> nn.Module:
        network = _unwrapped(function())
        if not isinstance(network, nn.Module):
            raise AttnbenchError(
                f"{source} returned {type(network).__name__}; it must return an nn.Module"
            )
        return network

    try:
        return build_with_fixed_seed(build)
    except AttnbenchError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(f"{source} failed", place, error) from None


def _import_file(path: Path) -> ModuleType:
    """Import a file under a name that is the same in all processes and changes with its contents.

    Workers get a network by name of its classes, and two backbones may come from files of one name.
    """
    if not path.is_file():
        raise AttnbenchError(f"there is no file {path}")
    digest = hashlib.sha256(str(path).encode() + b"\0" + path.read_bytes()).hexdigest()
    name = f"{path.stem}_{digest[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _unwrapped(network: Any) -> Any:
    while True:
        if isinstance(network, nn.DataParallel):
            network = network.module
        elif isinstance(original := getattr(network, "_orig_mod", None), nn.Module):
            network = original  # compiled
        else:
            return network


def _failed(what: str, place: Path | str, error: BaseException) -> AttnbenchError:
    """The error to raise for an exception in the user's code, with the line of the file it is at."""
    if isinstance(error, AttnbenchError):
        return error
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(place)
    ]
    if isinstance(error, SyntaxError) and error.filename == str(place):
        lines.append(error.lineno)
    where = f" (line {lines[-1]})" if lines else ""
    hint = ""
    if isinstance(error, ModuleNotFoundError) and isinstance(place, Path):
        hint = "; a backbone's file can import installed packages, but not the files beside it"
    return AttnbenchError(
        f"{what}{where}: {type(error).__name__}: {error}{hint}. This is the backbone's own code, "
        "which runs in the evaluator"
    )


class _StructurePickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> str | None:
        return "tensor" if isinstance(obj, Tensor) else None


def check_picklable(network: nn.Module, source: str) -> None:
    """Check that a network can be sent to another process, as detectors made from it have to be.

    Raises:
        AttnbenchError: if it holds something that cannot be pickled.
    """
    try:
        _StructurePickler(io.BytesIO(), protocol=5).dump(network)
    except Exception as error:  # pickle raises several kinds, and modules define their own
        raise AttnbenchError(
            f"{source} cannot be pickled ({error}); define its classes and functions at the top level "
            "of the file, and use no lambdas"
        ) from None
