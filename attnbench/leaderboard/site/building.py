"""From records to the files of the site."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

from attnbench import __version__
from attnbench.cli.text import printable
from attnbench.errors import AttnbenchError
from attnbench.leaderboard.entries import Entry, grouped
from attnbench.leaderboard.exports import exported, write_files
from attnbench.leaderboard.fronts import front_of_track
from attnbench.leaderboard.plotting import Picture, Subject, pictures_for_pages
from attnbench.leaderboard.site.contents import (
    Row,
    method_pages,
    rows_of,
    task_pages,
)
from attnbench.leaderboard.site.pictures import gallery
from attnbench.leaderboard.site.rendering import environment, static_files
from attnbench.leaderboard.standings import Standings

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
    with ProcessPoolExecutor() as pool:
        drawn = pictures_for_pages(entries, tracks, pool)
        yield from _pages(entries, tracks, drawn)


def _pages(
    entries: Sequence[Entry],
    tracks: Mapping[str, Standings],
    drawn: Mapping[Subject, Future[list[Picture]]],
) -> Iterator[tuple[str, bytes]]:
    """What takes no plots comes first: these are being drawn meanwhile."""
    jinja = environment()
    rows = rows_of(tracks)
    tasks = list(task_pages(rows))
    paths = {row.entrant: row.page for row in rows}
    newest = max((entry.record.created for entry in entries), default="")
    common = {"version": __version__, "number": len(entries), "newest": newest}

    def page(template: str, root: str, **values: object) -> bytes:
        return jinja.get_template(template).render(root=root, **common, **values).encode()

    yield from static_files()
    for method in method_pages(rows, tracks, grouped(entries)):
        yield method.path, page("method.html", "../", method=method)
    files = list(exported(entries, tracks))
    yield from ((f"data/{name}", content) for name, content in files)
    sizes = [(name, len(content)) for name, content in files]
    cited = dict(files)["citation.bib"].decode()
    yield "data.html", page("data.html", "", files=sizes, citation=cited)
    plots = {subject: future.result() for subject, future in drawn.items()}
    for picture in (picture for each in plots.values() for picture in each):
        yield f"plots/{picture.name}.svg", picture.svg
    for task in tasks:
        pictures = gallery(task.definition, task.track)
        if pictures is not None:
            yield f"pictures/{pictures[0]}", pictures[1]
        shown = {
            "task": task,
            "plots": {contest: plots.get((task.track, contest)) for contest in task.contests},
            "gallery": pictures and pictures[0],
            "paths": paths,
        }
        yield task.path, page("task.html", "../", **shown)
    shown = {
        "tracks": tracks,
        "rows": rows,
        "pages": tasks,
        "plots": {track: plots.get((track, None), []) for track in tracks},
        "fronts": {track: front_of_track(found) for track, found in tracks.items()},
        "paths": paths,
        "filters": _filters(rows),
    }
    yield "index.html", page("index.html", "", **shown)


def _filters(rows: Sequence[Row]) -> dict[str, list[str]]:
    """What the table of results can be filtered by, and for what."""
    return {
        "track": list(dict.fromkeys(row.track for row in rows)),
        "task": sorted({row.contest.task for row in rows}),
        "backbone": sorted({row.contest.backbone for row in rows}),
        "device": sorted({printable(row.device, 120) for row in rows}),
    }


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
