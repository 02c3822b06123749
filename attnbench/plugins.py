"""Submissions and tasks that other installed packages bring, by their entry points.

A package that holds a submission in `my_package/fast_gain/`, with its `submission.toml`, says in its
`pyproject.toml`

    [project.entry-points."attnbench.submissions"]
    fast_gain = "my_package.fast_gain"

and `attnbench evaluate fast_gain` finds it. A task stands likewise under `attnbench.tasks`: the package
named there holds `NAME.toml`. Nothing of the package is imported to find it.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

Group = Literal["attnbench.submissions", "attnbench.tasks"]


def offered(group: Group) -> dict[str, Path]:
    """The folders that installed packages offer, by the names they give; those that are there."""
    folders = {entry.name: _folder(entry.value) for entry in entry_points(group=group)}
    return {name: folder for name, folder in sorted(folders.items()) if folder is not None}


def _folder(package: str) -> Path | None:
    first, *rest = package.split(".")
    spec = find_spec(first)  # of a package without a parent: imports nothing
    for place in (spec and spec.submodule_search_locations) or ():
        folder = Path(place, *rest)
        if folder.is_dir():
            return folder
    return None
