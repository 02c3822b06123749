"""The output of `evaluate`: a table, reasons and paths, or JSON lines."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from attnbench.cli.episode_report import (
    episodes_of_row,
    print_failures,
    print_indented,
    print_output,
)
from attnbench.cli.results_table import print_table
from attnbench.commands.published_comparison import compare_with_published
from attnbench.text import printable, printable_lines
from attnbench.vocabulary import PUBLISHED_FOLDER

# pandas converts a column of integers to floats if one of them is missing.
_COUNTS = {"seed", "targets", "parameters_added", "parameters_changed", "artefact_bytes"}


def any_failed(frame: pd.DataFrame) -> bool:
    """Return whether any row of an evaluation failed."""
    return bool((frame["status"] == "failed").any())


def print_json(frame: pd.DataFrame) -> None:
    """Print one JSON object per row, with the frame's columns as keys and null for missing values."""
    for row in _rows(frame):
        print(json.dumps(row, allow_nan=False))


def print_report(
    frame: pd.DataFrame,
    console: Console | None = None,
    *,
    wide: bool = False,
    verbose: bool = False,
) -> None:
    """Print the table, the reasons for failures, and the records, compared with the published ones.

    A failure is printed with the frames of the submission's own files.

    Args:
        frame: the rows, as `attnbench.evaluate` returns them.
        console: where to print; standard output by default.
        wide: whether to print all columns, however wide the terminal is.
        verbose: whether to print full tracebacks, and what the submissions printed.
    """
    console = console or Console(highlight=False)
    rows = _rows(frame)
    keys = _varying(frame)
    print_table(rows, keys, console, wide=wide)
    extra = [column for column in keys if column not in ("task", "submission")]
    of_targets = frame.attrs.get("episodes", {})
    reports = {
        number: episodes_of_row(row, of_targets.get(number))
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
    print_failures(episodes, frame.attrs.get("folders", {}), console, verbose=verbose)
    if verbose:
        print_output(episodes, console)
    if any(row["status"] == "ok" and row["adaptation_seconds"] is None for row in rows):
        console.print(
            "–: no times, because several episodes shared a CPU. Run again with --timing-only and "
            "without --workers to time them one by one."
        )
    paths = dict.fromkeys(str(row["record"]) for row in rows if row["record"])
    if paths:
        console.print("Records:" if len(paths) > 1 else "Record:")
        for path in paths:
            console.print(Text(f"  {printable(path)}"), soft_wrap=True)
    if line := compare_with_published([Path(path) for path in paths], Path(PUBLISHED_FOLDER)):
        console.print(Text(f"published: {line}"))


def _varying(frame: pd.DataFrame) -> list[str]:
    """Return the columns that distinguish the rows: the task, and those that vary within a task."""
    within = frame.groupby("task")
    varying = [c for c in ("submission", "backbone", "seed") if within[c].nunique().max() > 1]
    return ["task", *varying]


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as plain Python values. NaN and other missing values become None."""
    return [
        {str(column): _plain(value, str(column) in _COUNTS) for column, value in row.items()}
        for row in frame.to_dict("records")
    ]


def _plain(value: Any, count: bool) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if count:
        return int(value)
    return value if isinstance(value, str | int | float | bool) else str(value)
