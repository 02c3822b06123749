"""The content of the site's task pages: results and the Pareto front of each setting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from attnbench.leaderboard.entries import GroupedEntries
from attnbench.leaderboard.pareto import ParetoMember
from attnbench.leaderboard.pooling import Setting
from attnbench.leaderboard.shared_errors import SharedErrors, shared_errors
from attnbench.leaderboard.site.error_pictures import Sheet, SheetDrawer
from attnbench.leaderboard.site.result_rows import ResultRow
from attnbench.leaderboard.standings import Standings
from attnbench.tasks import TaskDefinition, list_tasks, load_task


@dataclass(frozen=True)
class TaskPage:
    """The page of one task on one track, with all its backbones.

    Attributes:
        path: relative to the site's root.
        name, track: of the task.
        definition: None if this installation does not have the task.
        settings: the versions of the task and backbones, in order.
        rows: the results, in the order of the standings.
        fronts: the Pareto front of each setting.
        errors: what the methods of a setting get wrong together, where enough of them have scores.
        sheets: pictures of "hardest" and "dividing" images of a setting, where they may be shown.
    """

    path: str
    name: str
    track: str
    definition: TaskDefinition | None
    settings: tuple[Setting, ...]
    rows: tuple[ResultRow, ...]
    fronts: Mapping[Setting, tuple[ParetoMember, ...]]
    errors: Mapping[Setting, SharedErrors]
    sheets: Mapping[tuple[Setting, str], Sheet]


def definitions_of(rows: Sequence[ResultRow]) -> dict[str, TaskDefinition]:
    """Return the definitions of all tasks of some rows that this installation has."""
    known = list_tasks()  # once: it searches the installed packages
    names = {row.setting.task for row in rows}
    return {name: load_task(name) for name in sorted(names) if name in known}


def task_pages(
    rows: Sequence[ResultRow],
    boards: Sequence[Standings],
    entries: GroupedEntries,
    tasks: Mapping[str, TaskDefinition],
    drawer: SheetDrawer,
) -> Iterator[TaskPage]:
    """Yield a page for every task of every track, in the order of the rows."""
    by_page: dict[str, list[ResultRow]] = defaultdict(list)
    for row in rows:
        by_page[row.task_page].append(row)
    fronts = {(b.track, setting): front for b in boards for setting, front in b.fronts.items()}
    for path, page_rows in by_page.items():
        name = page_rows[0].setting.task
        track = page_rows[0].track
        settings = tuple(sorted({row.setting for row in page_rows}))
        definition = tasks.get(name)
        errors = {
            setting: found
            for setting in settings
            if (found := shared_errors(entries[track][setting])) is not None
        }
        sheets = {
            (setting, kind): sheet
            for setting, found in errors.items()
            for kind, images in (("hardest", found.hardest), ("dividing", found.dividing))
            if (
                sheet := drawer.draw(
                    definition, setting, track, kind, [image.name for image in images]
                )
            )
        }
        yield TaskPage(
            path=path,
            name=name,
            track=track,
            definition=definition,
            settings=settings,
            rows=tuple(page_rows),
            fronts={setting: fronts[track, setting] for setting in settings},
            errors=errors,
            sheets=sheets,
        )
