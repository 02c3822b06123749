"""Builds the files of the site from records and standings."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from types import MappingProxyType

from attnbench.errors import AttnbenchError
from attnbench.leaderboard.entries import Entry, group_entries
from attnbench.leaderboard.exports import export_files, write_files
from attnbench.leaderboard.people_settings import PeopleOfSettings
from attnbench.leaderboard.plot_files import render_for_pages
from attnbench.leaderboard.pooling import method_of
from attnbench.leaderboard.site.charts import difference_chart, library, standings_chart
from attnbench.leaderboard.site.error_pictures import SheetDrawer
from attnbench.leaderboard.site.galleries import KINDS, gallery
from attnbench.leaderboard.site.method_pages import method_pages
from attnbench.leaderboard.site.pairs import pair_data
from attnbench.leaderboard.site.rendering import environment, static_files
from attnbench.leaderboard.site.result_rows import ResultRow, result_rows
from attnbench.leaderboard.site.task_pages import definitions_of, task_pages
from attnbench.leaderboard.standings import Standings
from attnbench.leaderboard.wording import summarise
from attnbench.text import printable
from attnbench.version import __version__

# Lists the files of a build, so that the next build can remove those it no longer has.
_LIST = ".attnbench-site.json"


def write_site(
    folder: Path,
    entries: Sequence[Entry],
    boards: Sequence[Standings],
    people: PeopleOfSettings = MappingProxyType({}),
) -> int:
    """Write the site and return its number of files.

    Files of an earlier build that the site no longer has are removed. All other files in the folder
    stay.

    Args:
        folder: created if needed.
        entries: all records.
        boards: the standings of these records.
        people: people beside the methods of some settings.

    Raises:
        AttnbenchError: if the folder cannot be written.
    """
    earlier = _files_of_earlier_build(folder)
    names = []

    def noting_names() -> Iterator[tuple[str, bytes]]:
        for name, content in site_files(entries, boards, people):
            names.append(name)
            yield name, content

    number = write_files(folder, noting_names())
    for name in earlier - set(names):
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    write_files(folder, iter([(_LIST, json.dumps(sorted(names), indent=1).encode())]))
    return number


def site_files(
    entries: Sequence[Entry],
    boards: Sequence[Standings],
    people: PeopleOfSettings = MappingProxyType({}),
) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of every file of the site; the same records give the same bytes."""
    with ProcessPoolExecutor() as pool:
        yield from _pages(entries, boards, people, pool)


def _pages(
    entries: Sequence[Entry],
    boards: Sequence[Standings],
    people: PeopleOfSettings,
    pool: Executor,
) -> Iterator[tuple[str, bytes]]:
    """Yield the files without plots first: the plots are being drawn in the meantime."""
    jinja = environment()
    rows = result_rows(boards)
    grouped = group_entries(entries)
    drawer, definitions = SheetDrawer(pool), definitions_of(rows)
    tasks = list(task_pages(rows, boards, grouped, definitions, drawer))
    methods = list(method_pages(rows, boards, grouped, definitions, drawer))
    pending_plots = render_for_pages(entries, boards, pool)
    paths = {row.method: row.page for row in rows}
    newest = max((entry.record.created for entry in entries), default="")
    # Next to published records, one's own are marked. On their own, they need no mark.
    own = {method_of(entry.record) for entry in entries if entry.is_own}
    has_published = any(not entry.is_own for entry in entries)
    common = {
        "version": __version__,
        "records": len(entries),
        "newest": newest,
        "own_methods": own if has_published else set(),
        "has_pairs": any(sum(not row.placement.lacking for row in b.rows) > 1 for b in boards),
    }

    def page(template: str, root: str, **values: object) -> bytes:
        return jinja.get_template(template).render(root=root, **common, **values).encode()

    yield from static_files()
    for method in methods:
        yield method.path, page("method.html", "../", method=method)
    exports = list(export_files(entries, boards))
    yield from ((f"data/{name}", content) for name, content in exports)
    sizes = [(name, len(content)) for name, content in exports]
    bibtex = dict(exports)["citation.bib"].decode()
    yield "data.html", page("data.html", "", files=sizes, citation=bibtex)
    plots = {subject: future.result() for subject, future in pending_plots.items()}
    for plot in (plot for of_subject in plots.values() for plot in of_subject):
        yield f"plots/{plot.name}.svg", plot.svg
    yield from ((f"pictures/{name}", content) for name, content in drawer.files())
    for task in tasks:
        drawn = {kind: gallery(task.definition, task.track, kind) for kind in KINDS}
        galleries = {kind: found for kind, found in drawn.items() if found is not None}
        yield from ((f"pictures/{name}", content) for name, content in galleries.values())
        values = {
            "task": task,
            "plots": {setting: plots.get((task.track, setting)) for setting in task.settings},
            "galleries": {kind: name for kind, (name, _) in galleries.items()},
            "paths": paths,
            "people": {setting: people.get((task.track, setting), ()) for setting in task.settings},
        }
        yield task.path, page("task.html", "../", **values)
    charts = {
        board.name: chart
        for board in boards
        if (chart := standings_chart(board, paths)) is not None
    }
    pairs = [data for board in boards if (data := pair_data(board, paths)) is not None]
    if charts or pairs:
        yield from library()
    if pairs:
        yield "compare.html", page("compare.html", "", boards=pairs, chart=difference_chart())
    yield from ((f"plots/{chart.name}.svg", chart.picture()) for chart in charts.values())
    values = {
        "boards": boards,
        "summaries": [(board, text) for board in boards if (text := summarise(board))],
        "charts": charts,
        "followed": sorted({row.method.submission for board in boards for row in board.rows}),
        "rows": rows,
        "pages": tasks,
        "plots": {board.name: plots.get((board.name, None), []) for board in boards},
        "paths": paths,
        "filters": _filters(rows),
    }
    yield "index.html", page("index.html", "", **values)


def _filters(rows: Sequence[ResultRow]) -> dict[str, list[str]]:
    """Return the columns that the result table can be filtered by, with their values."""
    return {
        "track": list(dict.fromkeys(row.track for row in rows)),
        "task": sorted({row.setting.task for row in rows}),
        "backbone": sorted({row.setting.backbone for row in rows}),
        "device": sorted({printable(row.device, 120) for row in rows}),
    }


def _files_of_earlier_build(folder: Path) -> set[str]:
    """Return the files that an earlier build listed, leaving out any outside the folder."""
    try:
        names = json.loads((folder / _LIST).read_bytes())
    except (OSError, ValueError):
        names = []
    if folder.exists() and not folder.is_dir():
        raise AttnbenchError(f"{folder} is a file; --site needs a folder")
    root = folder.resolve()
    # The list is a file like any other: what it names is deleted, so it is not trusted.
    return {
        name
        for name in (names if isinstance(names, list) else [])
        if isinstance(name, str) and (folder / name).resolve().is_relative_to(root)
    }
