"""Where attnbench finds its tasks, submissions and weights, downloads, and its cache."""

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


def download_folders() -> dict[str, Path]:
    """Return where torch and the hub keep downloads, by the environment variable that says so."""
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    hub = os.environ.get("HF_HUB_CACHE")
    return {
        "TORCH_HOME": Path(os.environ.get("TORCH_HOME") or user_cache / "torch"),
        "HF_HUB_CACHE": Path(
            hub or Path(os.environ.get("HF_HOME") or user_cache / "huggingface") / "hub"
        ),
    }


def weights_folders(data: Path | None) -> list[Path]:
    """Return the existing folders of published weights: downloads and `data/weights`.

    The fork server loads backbones from these folders, so it must be able to read them.

    Args:
        data: a data folder, if there is one.
    """
    downloads = download_folders()
    folders = [downloads["TORCH_HOME"] / "hub" / "checkpoints"]
    # The hub keeps data sets in the same folder, which must stay out of reach.
    folders += sorted(downloads["HF_HUB_CACHE"].glob("models--*"))
    if data is not None:
        folders.append(data / "weights")
    return [folder for folder in folders if folder.is_dir()]


def cache_folder() -> Path:
    """Return the folder of cached data: `ATTNBENCH_CACHE`, else `attnbench` in the user's cache."""
    configured = os.environ.get("ATTNBENCH_CACHE")
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(configured) if configured else Path(user_cache) / "attnbench"


def _carried_folder(name: str) -> Path:
    # In a wheel, the folder is inside the package. In a clone, it is next to the package.
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
