"""Reading files of weights. No code in a file is run, and an unusable file is an explained error."""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from attnbench.errors import AttnbenchError

# Nested dictionaries are followed this far: a pickled dictionary may contain itself.
_MAX_DEPTH = 8
# `torch.compile` puts this component into the names of a module's tensors.
_COMPILED = re.compile(r"(?:^|(?<=\.))_orig_mod\.")
# torchvision's first DenseNets were saved with other names (`denselayer1.norm.1`).
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def read_tensors(path: Path, advice: str = "fetch or copy it again") -> dict[str, Tensor]:
    """Return all tensors in a file by name. Names in nested dictionaries are joined with dots.

    The format is recognised by the file's content: safetensors, or PyTorch's (loaded with
    `weights_only=True`, which allows tensors and plain data only). The component `_orig_mod` that
    `torch.compile` adds to names is removed.

    Args:
        path: the file.
        advice: what to do if the file is empty, damaged or not a file of weights.

    Raises:
        AttnbenchError: if the file cannot be read, is empty, damaged or a web page, holds Python
            objects that only code could restore, or holds no tensors.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(512)
    except OSError as error:
        raise AttnbenchError(f"cannot read the weights in {path}: {error.strerror}") from None
    if problem := _not_weights(beginning):
        raise AttnbenchError(f"{path} {problem}; {advice}")
    # A safetensors file begins with the length of its header in 8 bytes, then JSON.
    content = (_safetensors if beginning[8:9] == b"{" else _torch_file)(path, advice)
    if not isinstance(content, Mapping):
        raise AttnbenchError(
            f"{path} holds a {type(content).__name__}, not tensors by name; "
            "save a network with torch.save(model.state_dict(), FILE)"
        )
    tensors = {_current_name(name): tensor for name, tensor in _flatten(content)}
    if not tensors:
        raise AttnbenchError(
            f"{path} holds no tensors; save a network with torch.save(model.state_dict(), FILE)"
        )
    return tensors


def _not_weights(beginning: bytes) -> str:
    """What a file is instead of a file of weights, by its first bytes; empty if it may be one."""
    if not beginning:
        return "is empty"
    if beginning.lstrip().startswith(b"<"):
        return "is a web page (HTML or XML), not weights"
    if beginning.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights themselves (run `git lfs pull`)"
    return ""


def _safetensors(path: Path, advice: str) -> object:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise AttnbenchError(f"{path} is truncated or damaged ({_line(error)}); {advice}") from None


def _torch_file(path: Path, advice: str) -> object:
    try:
        # Training scripts often save their command line arguments with the weights. A namespace
        # holds plain data and runs no code.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make the unpickler raise anything
        objects = sorted(set(re.findall(r"GLOBAL ([\w.]+)", str(error))))
        if objects or "TorchScript" in str(error):
            raise AttnbenchError(
                f"{path} holds more than tensors ({', '.join(objects) or 'a TorchScript program'}). "
                "Restoring it would run code from the file, which attnbench refuses "
                "(weights_only=True). Save the tensors alone, in a script of your own: "
                "torch.save(model.state_dict(), FILE)"
            ) from None
        raise AttnbenchError(
            f"{path} is truncated, damaged or not a file of weights ({_line(error)}); {advice}"
        ) from None


def _line(error: Exception) -> str:
    """The first sentence of an exception's message, or its type if that says more."""
    text = str(error).strip().partition("\n")[0].partition(". ")[0]
    return text[:160] if " " in text and "Weights only" not in text else type(error).__name__


def _flatten(
    content: Mapping[object, object], prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, Tensor]]:
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping) and depth < _MAX_DEPTH:
            yield from _flatten(value, f"{prefix}{key}.", depth + 1)


def _current_name(name: str) -> str:
    return _OLD_DENSENET.sub(r"\1\2.", _COMPILED.sub("", name))
