"""Submissions, tasks and backbones from other installed packages, found by their entry points.

A package with a submission in `my_package/fast_gain/` (a folder with a `submission.toml`) declares
it in its `pyproject.toml`:

    [project.entry-points."attnbench.submissions"]
    fast_gain = "my_package.fast_gain"

Then `attnbench evaluate fast_gain` finds it. A task is declared in the same way under
`attnbench.tasks`: the value names the package that holds `NAME.toml`. Finding a submission or a task
imports nothing from the package, so its code cannot run in the evaluator.

A backbone is declared under `attnbench.backbones`. The value names the package that holds `NAME.toml`
(see `attnbench.backbones.own_file`), or a function that returns a network:

    [project.entry-points."attnbench.backbones"]
    bird_net = "my_package.networks:make"

Finding a backbone imports nothing either. Loading it runs the package's code in the evaluator.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

EntryPointGroup = Literal["attnbench.submissions", "attnbench.tasks"]
_BACKBONES = "attnbench.backbones"


def entry_point_folders(group: EntryPointGroup) -> dict[str, Path]:
    """Return the folders that installed packages declare in a group, sorted by entry point name.

    Entry points whose folder does not exist are left out.
    """
    folders = {entry.name: _package_folder(entry.value) for entry in entry_points(group=group)}
    return {name: folder for name, folder in sorted(folders.items()) if folder is not None}


def packaged_backbone(name: str) -> Path | str | None:
    """Return the TOML file or the `MODULE:FUNCTION` of an installed package's backbone, or None."""
    for entry in entry_points(group=_BACKBONES, name=name):
        if entry.attr:
            return entry.value
        folder = _package_folder(entry.value)
        return None if folder is None else folder / f"{name}.toml"
    return None


def _package_folder(package: str) -> Path | None:
    """Return the folder of a dotted package name without importing anything, or None."""
    # `find_spec("a.b")` would import `a`, so only the top-level package is looked up.
    top_level, *subpackages = package.split(".")
    try:
        spec = find_spec(top_level)
    except ValueError:  # no name of a package, or one of a module that is none, such as `__main__`
        return None
    for location in (spec and spec.submodule_search_locations) or ():
        folder = Path(location, *subpackages)
        if folder.is_dir():
            return folder
    return None
