"""The folders of tasks, submissions and weights that attnbench carries, and of its cache."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).parent


def tasks_folder() -> Path:
    """Return the folder of task definitions, one TOML file each."""
    return _carried_folder("tasks")


def submissions_folder() -> Path:
    """Return the folder of shipped submissions, one folder each."""
    return _carried_folder("submissions")


def weights_folder() -> Path:
    """Return the folder of shipped weights, one safetensors file each."""
    return _PACKAGE / "backbones" / "weights"


def weights_folders(data: Path | None) -> list[Path]:
    """Return the existing folders of published weights: torch's downloads and `data/weights`.

    Workers run confined and load backbones from these folders, so they must be able to read them.

    Args:
        data: a data folder, if there is one.
    """
    torch_home = os.environ.get("TORCH_HOME") or (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch"
    )
    folders = [Path(torch_home) / "hub" / "checkpoints"]
    if data is not None:
        folders.append(data / "weights")
    return [folder for folder in folders if folder.is_dir()]


def cache_folder() -> Path:
    """Return the folder of cached data: `ATTNBENCH_CACHE`, else `attnbench` in the user's cache."""
    configured = os.environ.get("ATTNBENCH_CACHE")
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(configured) if configured else Path(user_cache) / "attnbench"


def _carried_folder(name: str) -> Path:
    # A wheel carries the folder inside the package. A clone has it next to the package.
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
