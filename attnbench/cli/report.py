"""The output of `evaluate`: a table, reasons and paths, or JSON lines."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from attnbench.cli.episode_report import (
    episodes_of_row,
    print_failures,
    print_indented,
    print_output,
)
from attnbench.cli.results_table import Row, print_table
from attnbench.commands.evaluate import Evaluation
from attnbench.commands.published_comparison import compare_with_published
from attnbench.records.rows import COLUMNS
from attnbench.text import printable, printable_lines
from attnbench.vocabulary import PUBLISHED_FOLDER


def any_failed(evaluation: Evaluation) -> bool:
    """Return whether any row of an evaluation failed."""
    return any(row["status"] == "failed" for row in evaluation.rows)


def print_json(evaluation: Evaluation) -> None:
    """Print one JSON object per row, with the columns as keys and null for missing values."""
    for row in evaluation.rows:
        print(json.dumps({column: row[column] for column in COLUMNS}, allow_nan=False))


def print_report(
    evaluation: Evaluation,
    console: Console | None = None,
    *,
    wide: bool = False,
    verbose: bool = False,
) -> None:
    """Print the table, the reasons for failures, and the records, compared with the published ones.

    A failure is printed with the frames of the submission's own files.

    Args:
        evaluation: the rows, and where the submissions are.
        console: where to print; standard output by default.
        wide: whether to print all columns, however wide the terminal is.
        verbose: whether to print full tracebacks, and what the submissions printed.
    """
    console = console or Console(highlight=False)
    rows: Sequence[Row] = evaluation.rows
    keys = _varying(rows)
    print_table(rows, keys, console, wide=wide)
    extra = [column for column in keys if column not in ("task", "submission")]
    reports = {
        number: episodes_of_row(row, evaluation.episodes.get(number))
        for number, row in enumerate(rows)
        if verbose or row["status"] == "failed"
    }
    episodes = [report for of_row in reports.values() for report in of_row]
    for number, row in enumerate(rows):
        if row["status"] != "ok" and not (row["status"] == "failed" and reports[number]):
            key = ", ".join(str(row[column]) for column in ("submission", "task", *extra))
            first, *lines = printable_lines(row["reason"]).splitlines() or [""]
            text = f"{row['status']}: {printable(key)}: {first}"
            console.print(Text(text, style="red" if row["status"] == "failed" else ""))
            print_indented(lines, console)
    print_failures(episodes, evaluation.folders, console, verbose=verbose)
    if verbose:
        print_output(episodes, console)
    if any(row["status"] == "ok" and row["adaptation_seconds"] is None for row in rows):
        console.print(
            "–: no times, because other work or other episodes used the CPU meanwhile. Run again "
            "with --timing-only and without --workers to time the episodes one by one."
        )
    paths = dict.fromkeys(str(row["record"]) for row in rows if row["record"])
    if paths:
        console.print("Records:" if len(paths) > 1 else "Record:")
        for path in paths:
            console.print(Text(f"  {printable(path)}"), soft_wrap=True)
    if line := compare_with_published([Path(path) for path in paths], Path(PUBLISHED_FOLDER)):
        console.print(Text(f"published: {line}"))


def _varying(rows: Sequence[Row]) -> list[str]:
    """Return the columns that distinguish the rows: the task, and those that vary within a task."""
    values: dict[tuple[str, str], set[object]] = defaultdict(set)
    for row, column in itertools.product(rows, ("submission", "track", "backbone", "seed")):
        values[column, row["task"]].add(row[column])
    varying = [column for (column, _), within in values.items() if len(within) > 1]
    return ["task", *dict.fromkeys(varying)]
