"""The output of `evaluate`: a table that fits 80 columns, or JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnbench.text import printable

# pandas converts a column of integers to floats if one of them is missing.
_COUNTS = {"seed", "targets", "parameters_added", "parameters_changed", "artefact_bytes"}

_Row = Mapping[str, Any]


def any_failed(frame: pd.DataFrame) -> bool:
    """Return whether any row of an evaluation failed."""
    return bool((frame["status"] == "failed").any())


def print_json(frame: pd.DataFrame) -> None:
    """Print one JSON object per row, with the frame's columns as keys and null for missing values."""
    for row in _rows(frame):
        print(json.dumps(row, allow_nan=False))


def print_report(frame: pd.DataFrame, console: Console | None = None) -> None:
    """Print the table, the reasons of failures, and the paths of the records."""
    console = console or Console(highlight=False)
    rows = _rows(frame)
    table = results_table(frame, wide=True)
    unbounded = console.options.update(max_width=1000)
    if console.measure(table, options=unbounded).maximum > console.width:
        table = results_table(frame, wide=False)
    console.print(table)
    extra = [column for column in _varying(frame) if column not in ("submission", "task")]
    for row in rows:
        if row["status"] != "ok":
            key = ", ".join(str(row[column]) for column in ("submission", "task", *extra))
            text = f"{row['status']}: {printable(key)}: {printable(row['reason'])}"
            console.print(Text(text, style="red" if row["status"] == "failed" else ""))
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


def results_table(frame: pd.DataFrame, *, wide: bool) -> Table:
    """Return a table of an evaluation's rows.

    Args:
        frame: the rows, as `attnbench.evaluate` returns them.
        wide: whether each row is one line. If not, cells are stacked to fit 80 columns.
    """
    join = " " if wide else "\n"
    keys = _varying(frame)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False)
    table.add_column((" / " if wide else "\n").join(keys), overflow="fold")
    for heading in (
        "targets" if wide else "tar-\ngets",
        f"d′{join}[95 %]",
        "c",
        "d_a",
        "parameters\nadded + changed" if wide else "para-\nmeters",
        "adaptation" if wide else "adap-\ntation",
        "passes",
        "device" if wide else "de-\nvice",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in _rows(frame):
        table.add_row(
            Text((" / " if wide else "\n").join(printable(row[key], 40) for key in keys)),
            str(row["targets"]),
            *_cells(row, join),
            printable(row["device"], 10),
        )
        if not wide:
            table.add_section()
    return table


def _cells(row: _Row, join: str) -> list[str | Text]:
    if row["status"] != "ok":
        status = "failed" if row["status"] == "failed" else f"not{join}applicable"
        return [Text(status, style="red" if row["status"] == "failed" else "dim"), *["–"] * 5]
    interval = f"[{_number(row['d_prime_low'])}, {_number(row['d_prime_high'])}]"
    return [
        Text(f"{_number(row['d_prime'])}{join}{interval}"),
        _number(row["criterion"]),
        _number(row["d_a"]),
        f"{_count(row['parameters_added'])} +{join}{_count(row['parameters_changed'])}",
        seconds(row["adaptation_seconds"]),
        _passes(row["adaptation_passes"]),
    ]


def seconds(value: float | None) -> str:
    """Return a duration with three significant digits and its unit; "–" for None."""
    if value is None:
        return "–"
    if value < 0.9995e-3:
        return f"{value * 1e6:.0f} µs"
    if value < 0.9995:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} s" if value < 999.5 else f"{value:.0f} s"


def _passes(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _count(value: float | None) -> str:
    return "–" if value is None else f"{int(value):,}"


def _varying(frame: pd.DataFrame) -> list[str]:
    """Return the columns that distinguish the rows: the task, and those that vary within a task."""
    within = frame.groupby("task")
    varying = [c for c in ("submission", "backbone", "seed") if within[c].nunique().max() > 1]
    return (["submission"] if "submission" in varying else []) + [
        "task",
        *(column for column in varying if column != "submission"),
    ]


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
