"""Where the task definitions, the shipped submissions, the shipped weights and the cache lie."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).parent


def tasks_folder() -> Path:
    """The folder of task definitions, one TOML each."""
    return _beside_or_inside("tasks")


def submissions_folder() -> Path:
    """The folder of shipped submissions, one folder each."""
    return _beside_or_inside("submissions")


def weights_folder() -> Path:
    """The folder of shipped weights, one safetensors file each."""
    return _PACKAGE / "backbones" / "weights"


def weights_folders(data: Path | None) -> list[Path]:
    """Where backbones' weights are read from: `weights` in the data folder, torch's own downloads."""
    torch_home = os.environ.get("TORCH_HOME") or (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch"
    )
    folders = [Path(torch_home) / "hub" / "checkpoints"]
    if data is not None:
        folders.append(data / "weights")
    return [folder for folder in folders if folder.is_dir()]


def cache_folder() -> Path:
    """Where prepared pictures are kept: ATTNBENCH_CACHE, or attnbench in the user's cache folder."""
    chosen = os.environ.get("ATTNBENCH_CACHE")
    users = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(users) / "attnbench"


def _beside_or_inside(name: str) -> Path:
    # A wheel carries the folder inside the package; a clone has it beside the package.
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
