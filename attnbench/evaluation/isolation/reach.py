"""What of the file system is within a worker's reach: programs and libraries, never data."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import attnbench
from attnbench.resources import weights_folder

_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/sys", "/nix/store")
_INSTALLED = ("site-packages", "dist-packages")
_OF_PROC = ("cpuinfo", "meminfo", "stat", "version", "loadavg", "filesystems", "sys")
_OF_GPUS = ("driver", "devices", "modules")
_DEVICES = ("null", "zero", "full", "random", "urandom")
# What of attnbench tells how stimuli are drawn, what was recorded, and who has how many points.
_EVALUATOR_ONLY = ("stimuli", "records", "tasks", "submissions", "leaderboard")


def program_folders() -> list[Path]:
    """The folders that Python and its packages are in, and those of the system."""
    folders = [Path(folder) for folder in (*_SYSTEM, sys.prefix, sys.base_prefix)]
    folders += map(Path, filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)))
    own = Path(attnbench.__file__).parent
    for entry in map(Path, filter(None, sys.path)):
        if any(entry.is_relative_to(folder) for folder in folders):
            continue
        if entry.name in _INSTALLED:
            folders.append(entry)
        else:
            # A folder of sources, such as a clone: its packages, not the data that lies beside them.
            folders += [child for child in _children(entry) if _is_code(child)]
    return [folder for folder in dict.fromkeys([*folders, own]) if folder.exists()]


def hidden_folders(also: Iterable[Path] = ()) -> list[Path]:
    """What a worker must not see even where it lies among programs.

    The parts of attnbench that know the stimuli, the networks it ships (a detector has one of them,
    given to it, and no second), scikit-learn's data sets, and `also`.
    """
    package = Path(attnbench.__file__).parent
    hidden = [package / name for name in _EVALUATOR_ONLY] + [weights_folder()]
    if (sklearn := find_spec("sklearn")) and sklearn.origin:
        hidden.append(Path(sklearn.origin).parent / "datasets" / "data")
    return [path.resolve() for path in (*hidden, *also) if path.exists()]


def whole_and_split(
    folders: Iterable[Path], hidden: Sequence[Path]
) -> tuple[list[Path], list[Path]]:
    """The largest parts of `folders` with nothing of `hidden` in them, and the folders above these."""
    whole: list[Path] = []
    split: list[Path] = []
    left = list(folders)
    while left:
        folder = left.pop()
        inside = [path for path in hidden if path.is_relative_to(folder.resolve())]
        if not inside:
            whole.append(folder)
        elif folder.resolve() not in inside:
            split.append(folder)
            left += _children(folder)
    return whole, split


def everything_but_processes() -> list[Path]:
    """All of the file system but `/proc`, and of that what is about this process and the machine."""
    own = [Path("/proc", str(os.getpid())), *(Path("/proc", name) for name in _OF_PROC + _OF_GPUS)]
    return [path for path in [*_children(Path("/")), *own] if path != Path("/proc")]


def devices() -> list[Path]:
    """Devices that a worker may use: the harmless ones, and NVIDIA's GPUs."""
    return [Path("/dev", name) for name in _DEVICES] + sorted(Path("/dev").glob("nvidia*"))


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_code(path: Path) -> bool:
    return path.suffix in (".py", ".so") or (path / "__init__.py").is_file()
