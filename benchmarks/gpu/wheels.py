"""Packages for a machine without a network: `--pack` fetches them as wheels, `--packed` uses them.

This module needs the standard library only, and `packaging` to pack.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Collection, Iterator, Sequence
from importlib import metadata
from pathlib import Path

# What a machine with PyTorch has.
WITH_TORCH = frozenset({"torch", "torchvision", "numpy", "pillow"})
# What attnbench needs for its commands, plots, pages and the hub, none of which a run uses.
UNUSED = frozenset({"datasets", "typer", "rich", "matplotlib", "jinja2", "tabulate"})
_PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")


class CannotPack(Exception):
    """Wheels could not be fetched or read. The message is for the user."""


def requirements(python: str, has: Collection[str] = ()) -> list[str]:
    """Return what attnbench and the library `peft` need on that machine, as `name==version`.

    The versions are those installed here.

    Args:
        python: the machine's version of Python, such as `3.12`.
        has: packages that the machine has, with whatever they need.
    """
    found: dict[str, str] = {}
    pending = list(_required_by("attnbench", python, extra="peft"))
    left_out = {_normalised(name) for name in (*WITH_TORCH, *UNUSED, *has)}
    while pending:
        name = pending.pop()
        if name in left_out or name in found:
            continue
        found[name] = metadata.version(name)
        pending += _required_by(name, python)
    return sorted(f"{name}=={version}" for name, version in found.items())


def _required_by(name: str, python: str, extra: str = "") -> Iterator[str]:
    """Yield the names of what a package needs, and of what one of its extras needs."""
    from packaging.requirements import Requirement

    machine = {"python_version": python, "python_full_version": f"{python}.0", "extra": extra}
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(machine):
            yield _normalised(requirement.name)


def _normalised(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def pack(folder: Path, python: str, wanted: Sequence[str]) -> list[Path]:
    """Fetch wheels with pip, for Linux on x86-64, and return their paths.

    Args:
        folder: receives the wheels.
        python: the machine's version of Python, such as `3.12`.
        wanted: requirements, without what they need in turn.

    Raises:
        CannotPack: if pip fails.
    """
    if not wanted:
        raise CannotPack("there is nothing to pack: the machine has all that is needed")
    platforms = [f"--platform={platform}_x86_64" for platform in _PLATFORMS]
    line = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    line += ["--only-binary=:all:", f"--python-version={python}", "--implementation=cp"]
    done = subprocess.run([*line, *platforms, *wanted], capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise CannotPack(f"pip cannot fetch the wheels: {last[0]}")
    return sorted(folder.glob("*.whl"))


def unpack(folder: Path, into: Path) -> Path:
    """Unpack the wheels in a folder, and return the folder to import from.

    Args:
        folder: has the wheels.
        into: an empty folder.

    Raises:
        CannotPack: if there are none, or one is damaged.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise CannotPack(
            f"there are no wheels in {folder}; on a machine with a network, fetch them with "
            f"`python -m benchmarks gpu --pack {folder}`"
        )
    # By this name, workers recognise a folder of libraries.
    site = into / "site-packages"
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
        except (OSError, zipfile.BadZipFile):
            raise CannotPack(f"{wheel} is damaged; fetch the wheels again with --pack") from None
    return site
