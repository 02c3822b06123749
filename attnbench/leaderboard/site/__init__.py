"""The leaderboard as a static site: pages that work from a file, with no network and no scripts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from attnbench import __version__
from attnbench.cli.text import printable
from attnbench.errors import AttnbenchError
from attnbench.leaderboard.drawing import Plot, svg_for_pages
from attnbench.leaderboard.entries import Entry, Grouped, grouped
from attnbench.leaderboard.exports import citation, exported, write_files
from attnbench.leaderboard.site.contents import (
    Row,
    TaskPage,
    method_pages,
    rows_of,
    task_pages,
)
from attnbench.leaderboard.site.pictures import gallery
from attnbench.leaderboard.site.rendering import environment, static_files
from attnbench.leaderboard.standings import Standings
from attnbench.leaderboard.track_plots import contest_plots, track_plots

_LIST = ".attnbench-site.json"


def write_site(folder: Path, entries: Sequence[Entry], tracks: Mapping[str, Standings]) -> int:
    """Build the site; how many files it has. Pages of an earlier one that it has no more are removed.

    Args:
        folder: made if need be; what attnbench has not written there stays.
        entries: all records.
        tracks: the standings of each track, of these records.

    Raises:
        AttnbenchError: where the folder cannot be written.
    """
    before = _written_before(folder)
    names = []

    def noted() -> Iterator[tuple[str, bytes]]:
        for name, content in site_files(entries, tracks):
            names.append(name)
            yield name, content

    number = write_files(folder, noted())
    for name in before - set(names):
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    write_files(folder, iter([(_LIST, json.dumps(sorted(names), indent=1).encode())]))
    return number


def site_files(
    entries: Sequence[Entry], tracks: Mapping[str, Standings]
) -> Iterator[tuple[str, bytes]]:
    """The site's files by their names in it, the same bytes for the same records."""
    jinja = environment()
    by_contest = grouped(entries)
    rows = rows_of(tracks)
    pages = list(task_pages(rows))
    newest = max((entry.record.created for entry in entries), default="")
    common = {"version": __version__, "number": len(entries), "newest": newest}

    def page(template: str, root: str, **values: object) -> bytes:
        return jinja.get_template(template).render(root=root, **common, **values).encode()

    plots: dict[str, list[Plot]] = {}
    for track, found in tracks.items():
        plots[track] = track_plots(track, found)
        yield from _images(plots[track])
    shown = {
        "tracks": tracks,
        "rows": rows,
        "pages": pages,
        "plots": plots,
        "paths": {row.entrant: row.page for row in rows},
        "filters": _filters(rows),
    }
    yield "index.html", page("index.html", "", **shown)
    for each in pages:
        yield from _task_files(page, each, tracks[each.track], by_contest)
    for method in method_pages(rows, tracks, by_contest):
        yield method.path, page("method.html", "../", method=method)
    files = list(exported(entries))
    yield from ((f"data/{name}", content) for name, content in files)
    sizes = [(name, len(content)) for name, content in files]
    yield "data.html", page("data.html", "", files=sizes, citation=citation(entries))
    yield from static_files()


def _filters(rows: Sequence[Row]) -> dict[str, list[str]]:
    """What the table of results can be filtered by, and for what."""
    return {
        "track": list(dict.fromkeys(row.track for row in rows)),
        "task": sorted({row.contest.task for row in rows}),
        "backbone": sorted({row.contest.backbone for row in rows}),
        "device": sorted({printable(row.entrant.device, 120) for row in rows}),
    }


def _task_files(
    page: Callable[..., bytes], task: TaskPage, found: Standings, by_contest: Grouped
) -> Iterator[tuple[str, bytes]]:
    plots = {}
    for contest in task.contests:
        entries = by_contest[task.track][contest]
        plots[contest] = contest_plots(task.track, contest, found, entries)
        yield from _images(plots[contest])
    pictures = gallery(task)
    if pictures is not None:
        yield pictures
    image = None if pictures is None else pictures[0]
    yield task.path, page("task.html", "../", task=task, plots=plots, gallery=image)


def _images(plots: Sequence[Plot]) -> Iterator[tuple[str, bytes]]:
    for plot in plots:
        yield f"plots/{plot.name}.svg", svg_for_pages(plot)


def _written_before(folder: Path) -> set[str]:
    """The files of an earlier build; never one outside of the folder."""
    try:
        names = json.loads((folder / _LIST).read_bytes())
    except (OSError, ValueError):
        names = []
    if folder.exists() and not folder.is_dir():
        raise AttnbenchError(f"{folder} is a file; --site needs a folder")
    root = folder.resolve()
    return {
        name
        for name in (names if isinstance(names, list) else [])
        if isinstance(name, str) and (folder / name).resolve().is_relative_to(root)
    }
