"""Results of benchmarks: their JSON file, Markdown tables of them, and comparisons of two files."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pydantic

from attnbench.errors import AttnbenchError
from attnbench.judge.environment import processor_name
from attnbench.statistics.intervals import median_interval

RESULTS = Path(__file__).with_name("results.json")

# With fewer rounds, the noise is unknown: there are no intervals and no comparisons.
_MIN_ROUNDS = 3

_PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "peft", "tensorflow")


class Figure(pydantic.BaseModel, frozen=True, extra="forbid"):
    """A cell of a table: one quantity, measured in one or more rounds.

    Attributes:
        row, column: its place in the table.
        unit: of the values: "%" for fractions, which are stored from 0 to 1; "" for other ratios;
            "s", "a second". Figures in "nats" are losses, which are no measure of speed and not
            compared.
        values: one per round.
        aim: a limit for the median, or None.
        more_is_better: whether the aim is a lower limit rather than an upper one.
    """

    row: str
    column: str = "measured"
    unit: str = ""
    values: Sequence[float] = pydantic.Field(min_length=1)
    aim: float | None = None
    more_is_better: bool = False

    @property
    def is_ratio(self) -> bool:
        """Whether the quantity can be compared between processors."""
        return self.unit in ("", "%")

    @property
    def is_speed(self) -> bool:
        """Whether the quantity is a measure of speed."""
        return self.unit != "nats"

    @property
    def interval(self) -> tuple[float, float, float]:
        """The median and its 95 % interval: median, lower and upper end."""
        return median_interval(self.values)

    @property
    def keeps_its_aim(self) -> bool:
        """Whether the median keeps the aim, or there is none."""
        median = self.interval[0]
        return self.aim is None or (
            median >= self.aim if self.more_is_better else median <= self.aim
        )

    def is_worse_than(self, before: Figure) -> bool | None:
        """Return whether the whole interval is on the bad side of that of `before`.

        The answer is None if either of them has fewer than three rounds.
        """
        if min(len(self.values), len(before.values)) < _MIN_ROUNDS:
            return None
        (_, low, high), (_, low_before, high_before) = self.interval, before.interval
        return high < low_before if self.more_is_better else low > high_before


class Machine(pydantic.BaseModel, frozen=True, extra="forbid"):
    """The machine and the package versions of a measurement."""

    processor: str
    cores: int
    python: str
    packages: dict[str, str]

    def __str__(self) -> str:
        packages = ", ".join(f"{name} {version}" for name, version in self.packages.items())
        return f"{self.processor}, {self.cores} cores; Python {self.python}, {packages}"


class Result(pydantic.BaseModel, frozen=True, extra="forbid"):
    """The figures of one benchmark.

    Attributes:
        benchmark: its file and name, such as `test_harness.py::test_help`.
        table: the table that its figures belong to.
        day: date of the measurement in UTC, such as `2026-01-31`.
        machine: where it was measured.
        figures: what was measured.
    """

    benchmark: str
    table: str
    day: str
    machine: Machine
    figures: tuple[Figure, ...]


_RESULTS = pydantic.TypeAdapter(list[Result])


def results_of(report: dict[str, Any]) -> list[Result]:
    """Return the results that the fixture `keep` stored in a JSON report of pytest-benchmark."""
    machine = Machine(
        processor=processor_name(),
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        packages={name: metadata.version(name) for name in _PACKAGES if _is_installed(name)},
    )
    return [
        Result(
            benchmark=benchmark["fullname"].removeprefix("benchmarks/"),
            table=benchmark["extra_info"]["table"],
            day=datetime.now(UTC).date().isoformat(),
            machine=machine,
            figures=tuple(map(Figure.model_validate, benchmark["extra_info"]["figures"])),
        )
        for benchmark in report["benchmarks"]
        if "figures" in benchmark["extra_info"]
    ]


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def read(path: Path) -> list[Result]:
    """Read results from a file. A file that does not exist has none.

    Raises:
        AttnbenchError: if the file contains something else.
    """
    if not path.exists():
        return []
    try:
        return _RESULTS.validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        raise AttnbenchError(
            f"{path} does not contain benchmark results ({error.errors()[0]['msg']}); "
            "write such a file with `python -m benchmarks run --out FILE`"
        ) from None


def keep(results: Iterable[Result], path: Path) -> None:
    """Add results to a file. Earlier results of the same benchmark and table are replaced."""
    merged = {(result.table, result.benchmark): result for result in (*read(path), *results)}
    path.write_bytes(_RESULTS.dump_json(list(merged.values()), indent=1) + b"\n")


def compared(now: Iterable[Result], before: Iterable[Result]) -> list[tuple[str, bool]]:
    """Compare the figures that two sets of results have in common.

    A figure is worse if its whole interval is on the bad side of the earlier one. Figures with too
    few rounds, and those that depend on a different processor, are left out.

    Returns:
        A line of text for each figure, and whether the figure is worse.
    """
    earlier_results = _by_place(before)
    lines = []
    for place, (result, figure) in _by_place(now).items():
        if place not in earlier_results:
            continue
        earlier_result, earlier = earlier_results[place]
        if not _is_comparable(figure, result, earlier_result):
            continue
        worse = figure.is_worse_than(earlier)
        if worse is not None:
            verdict = "WORSE" if worse else "not worse"
            change = f"{cell(earlier)}, now {cell(figure)}: {verdict}"
            lines.append((f"{result.table}: {figure.row}, {figure.column}: {change}", worse))
    return lines


def _by_place(results: Iterable[Result]) -> dict[tuple[str, ...], tuple[Result, Figure]]:
    """Return each figure and its result by table, benchmark, row and column."""
    return {
        (result.table, result.benchmark, figure.row, figure.column): (result, figure)
        for result in results
        for figure in result.figures
    }


def _is_comparable(figure: Figure, now: Result, before: Result) -> bool:
    same_processor = now.machine.processor == before.machine.processor
    return figure.is_ratio or (figure.is_speed and same_processor)


def cell(figure: Figure) -> str:
    """Format a figure's median and interval for a table."""
    median, low, high = figure.interval
    factor, unit = _scale(median, figure.unit)
    text = f"{_number(factor * median, unit)} {unit}".strip()
    if len(figure.values) < _MIN_ROUNDS:
        return text
    return f"{text} [{_number(factor * low, unit)}, {_number(factor * high, unit)}]"


def _scale(value: float, unit: str) -> tuple[float, str]:
    """Return a factor that makes a number easy to read, and the unit of the product."""
    match unit:
        case "%":
            return 100, unit
        case "s" if value < 1e-3:
            return 1e6, "µs"
        case "s" if value < 0.1:
            return 1e3, "ms"
        case _:
            return 1, unit


def _number(value: float, unit: str) -> str:
    """Format a number with three significant digits, or two for a fraction, but no fewer than its
    whole digits."""
    digits = 2 if unit == "%" else 3
    return f"{value:,.0f}" if abs(value) >= 99.5 else f"{value:.{digits}g}"


def table(name: str, results: Iterable[Result]) -> str:
    """Return one table in Markdown, followed by where its figures were measured."""
    in_table = [result for result in results if result.table == name]
    figures = [figure for result in in_table for figure in result.figures]
    if not figures:
        return "Not measured yet."
    # Columns with losses come last.
    speed_first = sorted(figures, key=lambda figure: not figure.is_speed)
    columns = list(dict.fromkeys(figure.column for figure in speed_first))
    rows = list(dict.fromkeys(figure.row for figure in figures))
    has_aims = any(figure.aim is not None for figure in figures)
    headers = ["", *columns, *(["aim"] if has_aims else [])]
    lines = [f"| {' | '.join(headers)} |", "|---" * len(headers) + "|"]
    for row in rows:
        by_column = {figure.column: figure for figure in figures if figure.row == row}
        cells = [
            _marked_cell(by_column[column]) if column in by_column else "" for column in columns
        ]
        if has_aims:
            aims = (_aim(figure) for figure in by_column.values() if figure.aim is not None)
            cells.append(next(aims, ""))
        lines.append(f"| {' | '.join([row, *cells])} |")
    days: dict[str, set[str]] = {}
    for result in in_table:
        days.setdefault(str(result.machine), set()).add(result.day)
    sources = [
        f"Measured on {machine}; {' and '.join(sorted(dates))}." for machine, dates in days.items()
    ]
    return "\n".join([*lines, "", *sources])


def _marked_cell(figure: Figure) -> str:
    return cell(figure) if figure.keeps_its_aim else f"{cell(figure)} ✗"


def _aim(figure: Figure) -> str:
    assert figure.aim is not None
    factor, unit = _scale(figure.aim, figure.unit)
    sign = "≥" if figure.more_is_better else "≤"
    return f"{sign} {_number(factor * figure.aim, unit)} {unit}".strip()
