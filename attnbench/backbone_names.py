"""Names of backbones, as they are given on the command line and in tasks. Torch is not needed here."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

FAMILIES = ("shipped", "torchvision", "timm", "sixteen")
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


def with_file(name: str, change: Callable[[Path], object]) -> str:
    """Return a name in which the file has been changed. A name without a file stays as it is.

    Args:
        name: a path to a TOML file, `FILE.py:FUNCTION`, or any other name.
        change: from the file, in which `~` is replaced by the home folder, to the new file.
    """
    if name.endswith(".toml"):
        return str(change(Path(name).expanduser()))
    function = split_function(name)
    if function is not None and function[0].endswith(".py"):
        return f"{change(Path(function[0]).expanduser())}:{function[1]}"
    return name


def absolute(name: str) -> str:
    """Return the name by which a process in another working directory finds the same backbone."""
    # Links are not resolved, so that files beside the link are found.
    return with_file(name, Path.absolute)
