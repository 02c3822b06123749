"""What benchmarks measure, how it is kept, and how it is set beside what was measured before."""

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

# Of fewer rounds the noise is not known.
_LEAST_ROUNDS = 3

_PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "peft", "tensorflow")


class Figure(pydantic.BaseModel, frozen=True, extra="forbid"):
    """A cell of a table: one quantity, measured round by round.

    Attributes:
        row, column: where it stands.
        unit: of the values: "%" for shares of one, "" for other ratios, "s", "a second"; "nats" of
            losses, which are no measure of speed and are not compared.
        values: one a round.
        aim: what the median should keep to, if there is an aim.
        more_is_better: whether it should be above its aim, not below.
    """

    row: str
    column: str = "measured"
    unit: str = ""
    values: Sequence[float] = pydantic.Field(min_length=1)
    aim: float | None = None
    more_is_better: bool = False

    @property
    def is_ratio(self) -> bool:
        """Whether it means the same on any processor."""
        return self.unit in ("", "%")

    @property
    def is_speed(self) -> bool:
        """Whether it tells how quick something is."""
        return self.unit != "nats"

    @property
    def interval(self) -> tuple[float, float, float]:
        """The median, and the 95 % interval of it."""
        return median_interval(self.values)

    @property
    def keeps_its_aim(self) -> bool:
        """Whether the median does. True where there is no aim."""
        middle = self.interval[0]
        return self.aim is None or (
            middle >= self.aim if self.more_is_better else middle <= self.aim
        )

    def is_worse_than(self, before: Figure) -> bool | None:
        """Whether its interval lies wholly on the bad side of the other's; None with too few rounds."""
        if min(len(self.values), len(before.values)) < _LEAST_ROUNDS:
            return None
        (_, low, high), (_, low_before, high_before) = self.interval, before.interval
        return high < low_before if self.more_is_better else low > high_before


class Machine(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Where something was measured, and with what."""

    processor: str
    cores: int
    python: str
    packages: dict[str, str]

    def __str__(self) -> str:
        packages = ", ".join(f"{name} {version}" for name, version in self.packages.items())
        return f"{self.processor}, {self.cores} cores; Python {self.python}, {packages}"


class Result(pydantic.BaseModel, frozen=True, extra="forbid"):
    """What one benchmark measured.

    Attributes:
        benchmark: its name in its file, `test_harness.py::test_help`.
        table: the table its figures stand in.
        day: `2026-01-31`, UTC.
    """

    benchmark: str
    table: str
    day: str
    machine: Machine
    figures: tuple[Figure, ...]


_RESULTS = pydantic.TypeAdapter(list[Result])


def results_of(report: dict[str, Any]) -> list[Result]:
    """What a run of pytest-benchmark kept through the fixture `keep`: of its JSON report."""
    machine = Machine(
        processor=processor_name(),
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        packages={name: metadata.version(name) for name in _PACKAGES if _is_installed(name)},
    )
    return [
        Result(
            benchmark=each["fullname"].removeprefix("benchmarks/"),
            table=each["extra_info"]["table"],
            day=datetime.now(UTC).date().isoformat(),
            machine=machine,
            figures=tuple(map(Figure.model_validate, each["extra_info"]["figures"])),
        )
        for each in report["benchmarks"]
        if "figures" in each["extra_info"]
    ]


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def read(path: Path) -> list[Result]:
    """Results from a file; none if it is not there.

    Raises:
        AttnbenchError: where it holds something else.
    """
    if not path.exists():
        return []
    try:
        return _RESULTS.validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        raise AttnbenchError(
            f"{path} does not hold results of benchmarks ({error.errors()[0]['msg']}); "
            "`python -m benchmarks run --out FILE` writes such a file"
        ) from None


def keep(results: Iterable[Result], path: Path) -> None:
    """Put results into a file, each in the place of what the same benchmark had there before."""
    all_of_them = {(each.table, each.benchmark): each for each in (*read(path), *results)}
    path.write_bytes(_RESULTS.dump_json(list(all_of_them.values()), indent=1) + b"\n")


def compared(now: Iterable[Result], before: Iterable[Result]) -> list[tuple[str, bool]]:
    """A line for each figure that both have with its noise and that compares; whether it got worse.

    Worse is what lies beyond the noise: its interval wholly on the bad side of the other's.
    """
    known = _by_place(before)
    lines = []
    for place, (result, figure) in _by_place(now).items():
        if place not in known or not _compare(figure, result, known[place][0]):
            continue
        earlier = known[place][1]
        worse = figure.is_worse_than(earlier)
        if worse is not None:
            said = f"{cell(earlier)}, now {cell(figure)}: {'WORSE' if worse else 'not worse'}"
            lines.append((f"{result.table}: {figure.row}, {figure.column}: {said}", worse))
    return lines


def _by_place(results: Iterable[Result]) -> dict[tuple[str, ...], tuple[Result, Figure]]:
    """Each figure, and the result it is of, by where it stands."""
    return {
        (each.table, each.benchmark, figure.row, figure.column): (each, figure)
        for each in results
        for figure in each.figures
    }


def _compare(figure: Figure, now: Result, before: Result) -> bool:
    same = now.machine.processor == before.machine.processor
    return figure.is_ratio or (figure.is_speed and same)


def cell(figure: Figure) -> str:
    """The median and its interval, as they stand in a table."""
    middle, low, high = figure.interval
    factor, unit = _scale(middle, figure.unit)
    told = f"{_number(factor * middle, unit)} {unit}".strip()
    if len(figure.values) < _LEAST_ROUNDS:
        return told
    return f"{told} [{_number(factor * low, unit)}, {_number(factor * high, unit)}]"


def _scale(value: float, unit: str) -> tuple[float, str]:
    """By what to multiply so that a number is easily read, and its unit then."""
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
    """Three significant digits, two of a share, but always whole numbers to the last digit."""
    digits = 2 if unit == "%" else 3
    return f"{value:,.0f}" if abs(value) >= 99.5 else f"{value:.{digits}g}"


def table(name: str, results: Iterable[Result]) -> str:
    """A Markdown table of the figures of one table, and where they were measured."""
    of_it = [each for each in results if each.table == name]
    figures = [figure for each in of_it for figure in each.figures]
    if not figures:
        return "Not measured yet."
    columns = list(
        dict.fromkeys(each.column for each in sorted(figures, key=lambda each: not each.is_speed))
    )
    rows = list(dict.fromkeys(each.row for each in figures))
    has_aims = any(each.aim is not None for each in figures)
    heads = ["", *columns, *(["aim"] if has_aims else [])]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        of_row = {each.column: each for each in figures if each.row == row}
        cells = [_marked(of_row[column]) if column in of_row else "" for column in columns]
        if has_aims:
            cells.append(next((_aim(each) for each in of_row.values() if each.aim is not None), ""))
        lines.append(f"| {' | '.join([row, *cells])} |")
    places: dict[str, list[str]] = {}
    for each in of_it:
        places.setdefault(str(each.machine), []).append(each.day)
    told = [f"{place}; {' and '.join(sorted(set(days)))}" for place, days in places.items()]
    return "\n".join([*lines, "", *(f"EpisodeOutcome on {each}." for each in told)])


def _marked(figure: Figure) -> str:
    return cell(figure) if figure.keeps_its_aim else f"{cell(figure)} ✗"


def _aim(figure: Figure) -> str:
    assert figure.aim is not None
    factor, unit = _scale(figure.aim, figure.unit)
    sign = "≥" if figure.more_is_better else "≤"
    return f"{sign} {_number(factor * figure.aim, unit)} {unit}".strip()
