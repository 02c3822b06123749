"""Which parts of the file system a worker can see: programs and libraries, never data."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from attnbench.resources import submissions_folder, tasks_folder, weights_folder

# The trusted packages of attnbench. They draw stimuli with their labels, keep results, or judge.
# Workers need none of them, and can neither import nor read them.
HIDDEN_PACKAGES = (
    "attnbench.cli",
    "attnbench.commands",
    "attnbench.engines",
    "attnbench.judge",
    "attnbench.leaderboard",
    "attnbench.records",
    "attnbench.runs",
    "attnbench.stimuli",
)

_SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/sys", "/nix/store")
_SITE_PACKAGES = ("site-packages", "dist-packages")
# The entries of /proc that libraries read to learn about the machine and about NVIDIA's GPUs.
_PROC_MACHINE = ("cpuinfo", "meminfo", "stat", "version", "loadavg", "filesystems", "sys")
_PROC_GPU = ("driver", "devices", "modules")
_DEVICES = ("null", "zero", "full", "random", "urandom")


def program_folders() -> list[Path]:
    """Return the folders of Python, its packages and the system's programs."""
    folders = [Path(folder) for folder in (*_SYSTEM, sys.prefix, sys.base_prefix)]
    folders += map(Path, filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)))
    package = Path(__file__).parents[1]
    for entry in map(Path, filter(None, sys.path)):
        if any(entry.is_relative_to(folder) for folder in folders):
            continue
        if entry.name in _SITE_PACKAGES:
            folders.append(entry)
        else:
            # A folder of sources, such as a clone. Only its packages are programs; records and data
            # may lie beside them.
            folders += [child for child in _children(entry) if _is_code(child)]
    return [folder for folder in dict.fromkeys([*folders, package]) if folder.exists()]


def hidden_folders(also: Iterable[Path] = ()) -> list[Path]:
    """Return the folders that a worker must not see, although they may lie among its libraries.

    These are the trusted packages of attnbench, the task definitions, the shipped submissions,
    scikit-learn's data sets, and the paths in `also`. The shipped networks are hidden too: a detector
    gets one network and must not load another. Each path is derived from the module or function that
    uses it, so a renamed folder cannot silently become visible.

    Args:
        also: more files or folders to hide, such as records and data. Those that do not exist are
            left out.

    Raises:
        RuntimeError: if a folder that must be hidden is not where its module says.
    """
    hidden = [_folder_of(package) for package in HIDDEN_PACKAGES]
    hidden += [tasks_folder(), submissions_folder(), weights_folder()]
    hidden.append(_folder_of("sklearn") / "datasets" / "data")
    missing = [path for path in hidden if not path.is_dir()]
    if missing:
        raise RuntimeError(f"cannot hide {missing[0]} from workers: there is no such folder")
    return [path.resolve() for path in (*hidden, *(path for path in also if path.exists()))]


def whole_and_split(
    folders: Iterable[Path], hidden: Sequence[Path]
) -> tuple[list[Path], list[Path]]:
    """Divide folders into parts that contain nothing hidden.

    Args:
        folders: the folders to divide.
        hidden: resolved paths that must not be in any part.

    Returns:
        The largest files and folders without anything hidden inside, and the folders above them,
        which may be listed but not read.
    """
    whole: list[Path] = []
    split: list[Path] = []
    pending = list(folders)
    while pending:
        folder = pending.pop()
        inside = [path for path in hidden if path.is_relative_to(folder.resolve())]
        if not inside:
            whole.append(folder)
        elif folder.resolve() not in inside:
            split.append(folder)
            pending += _children(folder)
    return whole, split


def all_but_other_processes() -> list[Path]:
    """Return the root's folders, but of `/proc` only this process and facts about the machine."""
    own = Path("/proc", str(os.getpid()))
    machine = [Path("/proc", name) for name in _PROC_MACHINE + _PROC_GPU]
    return [path for path in [*_children(Path("/")), own, *machine] if path != Path("/proc")]


def devices() -> list[Path]:
    """Return the device files that a worker may use: harmless ones, and NVIDIA's GPUs."""
    return [Path("/dev", name) for name in _DEVICES] + sorted(Path("/dev").glob("nvidia*"))


def _folder_of(package: str) -> Path:
    """Return the folder of an installed package, without importing it. Raises RuntimeError."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"cannot hide {package} from workers: there is no such package")
    return Path(next(iter(spec.submodule_search_locations)))


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_code(path: Path) -> bool:
    try:
        return path.suffix in (".py", ".so") or (path / "__init__.py").is_file()
    except OSError:  # hidden by bubblewrap
        return False
