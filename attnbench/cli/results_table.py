"""The table that `evaluate` prints: as many columns as fit the terminal, each on one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnbench.text import printable

Row = Mapping[str, Any]
_MAX_NAME = 64


@dataclass(frozen=True)
class _Column:
    """A column of figures.

    Attributes:
        heading: its heading.
        cell: returns its text for a row that succeeded.
        rank: columns with a high rank are left out first where the terminal is narrow.
        for_failures: whether the cell is also filled in rows that failed.
    """

    heading: str
    cell: Callable[[Row], str]
    rank: int
    for_failures: bool = False


_COLUMNS = (
    _Column("targets", lambda row: _count(row["targets"]), 6, for_failures=True),
    _Column("d′ [95 %]", lambda row: _interval(row), 0),
    _Column("c", lambda row: _number(row["criterion"]), 2),
    _Column("d_a", lambda row: _number(row["d_a"]), 1),
    _Column("parameters", lambda row: _parameters(row), 3),
    _Column("adaptation", lambda row: seconds(row["adaptation_seconds"]), 4),
    _Column("passes", lambda row: _passes(row["adaptation_passes"]), 5),
    _Column("device", lambda row: printable(row["device"], 10), 7, for_failures=True),
)


def print_table(rows: Sequence[Row], keys: Sequence[str], console: Console, *, wide: bool) -> None:
    """Print rows as a table. Where it is too narrow for all columns, say which are left out.

    Args:
        rows: the rows, as `attnbench.evaluate` returns them, with None for missing values.
        keys: the columns that distinguish the rows, of which "task" is one. If there are others,
            the rows of a task stand below its name.
        console: where to print. Its width is changed if `wide`.
        wide: whether to print all columns, however wide the terminal is.
    """
    others = [key for key in keys if key != "task"]
    columns = list(_COLUMNS)
    if wide:
        console.width = max(console.width, _width_of(_build(rows, others, columns), console))
    while len(columns) > 1 and _width_of(_build(rows, others, columns), console) > console.width:
        columns.remove(max(columns, key=lambda column: column.rank))
    console.print(_build(rows, others, columns))
    if left_out := [column.heading for column in _COLUMNS if column not in columns]:
        console.print(f"Too narrow for all columns. --wide also shows: {', '.join(left_out)}")


def _width_of(table: Table, console: Console) -> int:
    return console.measure(table, options=console.options.update(max_width=1000)).maximum


def _build(rows: Sequence[Row], others: Sequence[str], columns: Sequence[_Column]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False)
    table.add_column(" / ".join(["task", *others]), overflow="fold")
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    for name, cells in _lines(rows, others, columns):
        table.add_row(name, *cells)
    return table


def _lines(
    rows: Sequence[Row], others: Sequence[str], columns: Sequence[_Column]
) -> Iterator[tuple[Text, list[Text]]]:
    """Yield the name and the figures of each line."""
    tasks = dict.fromkeys(row["task"] for row in rows)
    for task in tasks:
        if others:
            yield Text(printable(task, _MAX_NAME), style="bold"), []
        for row in rows:
            if row["task"] == task:
                names = " / ".join(printable(row[key], _MAX_NAME) for key in others)
                name = f"  {names}" if others else printable(task, _MAX_NAME)
                yield Text(name), [_cell(row, column) for column in columns]


def _cell(row: Row, column: _Column) -> Text:
    if row["status"] == "ok" or column.for_failures:
        return Text(column.cell(row))
    if column.rank > 0:
        return Text("–")
    return Text(row["status"], style="red" if row["status"] == "failed" else "dim")


def _interval(row: Row) -> str:
    interval = f"[{_number(row['d_prime_low'])}, {_number(row['d_prime_high'])}]"
    return f"{_number(row['d_prime'])} {interval}"


def _parameters(row: Row) -> str:
    return f"{_count(row['parameters_added'])} + {_count(row['parameters_changed'])}"


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
