"""What the author of a submission sees of its episodes: why they failed, and what was printed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from attnbench.errors import AttnbenchError
from attnbench.records.record import EpisodeResult, Record
from attnbench.records.store import RecordStore
from attnbench.text import failure_text, printable, printable_lines

_INDENT = 4


@dataclass(frozen=True)
class EpisodeReport:
    """An episode, and the names of the record that it belongs to.

    Attributes:
        submission: the submission's name.
        task: the task's name.
        record: the record's JSON file, or another name that its episodes share.
        targets: how many targets the task has.
        not_run: how many of them have no episode.
        result: the episode's result.
    """

    submission: str
    task: str
    record: str
    targets: int
    not_run: int
    result: EpisodeResult


def episodes_of_row(
    row: Mapping[str, Any], of_targets: Sequence[EpisodeResult] | None
) -> list[EpisodeReport]:
    """Return the episodes of a row; none if it has no record, or one that cannot be read.

    Args:
        row: with the columns of `attnbench.records.rows.COLUMNS`.
        of_targets: the results of some targets, if the row is of these only.
    """
    if of_targets is not None:
        names = row["submission"], row["task"], str(row["record"] or (row["task"], row["seed"]))
        return [EpisodeReport(*names, len(of_targets), 0, result) for result in of_targets]
    if not row["record"]:
        return []
    path = Path(row["record"])
    try:
        return episodes_of_record(RecordStore(path.parent).read(path), path)
    except AttnbenchError:
        return []


def episodes_of_record(record: Record, path: Path) -> list[EpisodeReport]:
    """Return the episodes of a record.

    Args:
        record: the record.
        path: its JSON file.
    """
    names = record.identity.submission, record.identity.task, str(path)
    counts = len(record.episodes) + record.not_run, record.not_run
    return [EpisodeReport(*names, *counts, episode) for episode in record.episodes]


def print_failures(
    episodes: Sequence[EpisodeReport],
    folders: Mapping[str, str],
    console: Console | None = None,
    *,
    verbose: bool,
) -> None:
    """Print each failure once, with the number of targets that failed alike.

    Args:
        episodes: the episodes of all records. Those that succeeded are left out.
        folders: where submissions lie, by name, for the paths of their files.
        console: where to print; standard output by default.
        verbose: whether to print the frames of all files, not only of the submission's own.
    """
    console = console or Console(highlight=False)
    failed = [episode for episode in episodes if episode.result.status == "failed"]
    for alike in _grouped(failed, lambda e: (e.submission, e.result.reason, e.result.detail)):
        name, result = alike[0].submission, alike[0].result
        folder = Path(folders[name]) if name in folders else None
        trace = result.traceback if verbose and result.traceback else result.detail
        reason, *lines = failure_text(result.reason, trace, folder).splitlines()
        heading = f"failed: {printable(name)} on {_where(alike)}: {reason}"
        console.print(Text(heading, style="red"))
        print_indented(lines, console)


def print_output(episodes: Sequence[EpisodeReport], console: Console | None = None) -> None:
    """Print what the submissions have printed, each text once.

    Args:
        episodes: the episodes of all records. Those that printed nothing are left out.
        console: where to print; standard output by default.
    """
    console = console or Console(highlight=False)
    printed = [episode for episode in episodes if episode.result.printed.strip()]
    for alike in _grouped(printed, lambda e: (e.submission, e.result.printed)):
        name, first = printable(alike[0].submission), printable(alike[0].result.target, 60)
        where = f"{printable(alike[0].task)}, {first}"
        more = f" and {len(alike) - 1} more" * (len(alike) > 1)
        console.print(Text(f"printed by {name} on {where}{more}:", style="bold"))
        print_indented(printable_lines(alike[0].result.printed).splitlines(), console)


def print_indented(lines: Iterable[str], console: Console) -> None:
    """Print lines below a heading. They are not wrapped at the terminal's width."""
    for line in lines:
        console.print(Text(" " * _INDENT + line), soft_wrap=True)


def _grouped(
    episodes: Iterable[EpisodeReport], key: Callable[[EpisodeReport], Hashable]
) -> list[list[EpisodeReport]]:
    groups: dict[Hashable, list[EpisodeReport]] = defaultdict(list)
    for episode in episodes:
        groups[key(episode)].append(episode)
    return list(groups.values())


def _where(episodes: Sequence[EpisodeReport]) -> str:
    """Return where episodes failed, such as `5 of 10 targets of noisy-mnist`."""
    one_of_each_record = {episode.record: episode for episode in episodes}.values()
    targets = sum(episode.targets for episode in one_of_each_record)
    not_run = sum(episode.not_run for episode in one_of_each_record)
    tasks = {episode.task for episode in episodes}
    where = printable(next(iter(tasks))) if len(tasks) == 1 else f"{len(tasks)} tasks"
    left_out = f" ({not_run} not run, see --keep-going)" * (not_run > 0)
    return f"{len(episodes)} of {targets} target{'s' * (targets != 1)} of {where}{left_out}"
