"""Names of backbones, as they are given on the command line and in tasks."""

from __future__ import annotations

import re
from pathlib import Path

FAMILIES = ("shipped", "torchvision", "timm")
_FUNCTION = re.compile(r"(.+):([A-Za-z_]\w*)")


def is_own(name: str) -> bool:
    """Whether a name means a backbone of the user's own, rather than one of a `FAMILY/NAME`."""
    family, _, network = name.partition("/")
    is_file = name.endswith(".toml") or split_function(name) is not None
    return is_file or not network or family not in FAMILIES


def split_function(name: str) -> tuple[str, str] | None:
    """Split `FILE.py:FUNCTION` or `MODULE:FUNCTION` into both parts. None for another name."""
    match = _FUNCTION.fullmatch(name)
    return None if match is None else (match[1], match[2])


def absolute(name: str) -> str:
    """Return the name by which a process in another working directory finds the same backbone."""
    if name.endswith(".toml"):
        return str(absolute_path(name))
    function = split_function(name)
    if function is not None and function[0].endswith(".py"):
        return f"{absolute_path(function[0])}:{function[1]}"
    return name


def absolute_path(text: str) -> Path:
    """Return a path that a user gave, without links resolved."""
    return Path(text).expanduser().absolute()
