"""Results of benchmarks: how they are stored, compared with earlier ones and shown in tables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.errors import AttnbenchError
from benchmarks.measured import Figure, Machine, Result, cell, compared, keep, read, table

ROOT = Path(__file__).parents[1]
MACHINE = Machine(processor="a processor", cores=2, python="3.11.7", packages={"torch": "2.14"})
RATIOS = st.lists(st.floats(0.1, 10.0), min_size=3, max_size=9)


def result(*figures: Figure, processor: str = "a processor") -> Result:
    """The result of a benchmark on a machine with this processor."""
    machine = MACHINE.model_copy(update={"processor": processor})
    return Result(
        benchmark="test_a.py::test_b", table="a", day="2026-01-31", machine=machine, figures=figures
    )


def is_worse(now: Result, before: Result) -> list[bool]:
    """Whether each figure that can be compared is worse."""
    return [worse for _, worse in compared([now], [before])]


@given(RATIOS)
def test_equal_values_are_not_worse(values: list[float]) -> None:
    for more_is_better in (False, True):
        again = result(Figure(row="r", values=values, more_is_better=more_is_better))
        assert is_worse(again, again) == [False]


@given(RATIOS)
def test_interval_on_the_bad_side_of_the_earlier_one_is_worse(values: list[float]) -> None:
    larger_values = [value + 11.0 for value in values]
    for more_is_better in (False, True):
        small, large = (
            result(Figure(row="r", values=rounds, more_is_better=more_is_better))
            for rounds in (values, larger_values)
        )
        assert is_worse(large, small) == [not more_is_better]
        assert is_worse(small, large) == [more_is_better]


def test_single_rounds_are_not_compared() -> None:
    before, now = result(Figure(row="r", values=[1.0])), result(Figure(row="r", values=[9.0]))
    assert is_worse(now, before) == []


def test_seconds_are_compared_on_one_processor_only_and_losses_never() -> None:
    slow, fast = (Figure(row="r", unit="s", values=[seconds] * 3) for seconds in (2.0, 1.0))
    assert is_worse(result(slow), result(fast)) == [True]
    assert is_worse(result(slow, processor="another"), result(fast)) == []
    loss = result(Figure(row="r", unit="nats", values=[1.0] * 3))
    assert is_worse(loss, loss) == []


def test_table_shows_intervals_aims_and_the_machine() -> None:
    figures = (
        Figure(row="a pass", column="here", unit="s", values=[1.0]),
        Figure(row="quick", column="here", values=[0.5, 0.5, 0.5], aim=0.5),
        Figure(row="quick", column="loss", unit="nats", values=[2.25]),
        Figure(
            row="rate", column="here", unit="%", values=[0.9] * 3, aim=0.95, more_is_better=True
        ),
    )
    assert table("a", [result(*figures)]).splitlines() == [
        "|  | here | loss | aim |",
        "|---|---|---|---|",
        "| a pass | 1 s |  |  |",
        "| quick | 0.5 [0.5, 0.5] | 2.25 nats | ≤ 0.5 |",
        "| rate | 90 % [90, 90] ✗ |  | ≥ 95 % |",
        "",
        "Measured on a processor, 2 cores; Python 3.11.7, torch 2.14; 2026-01-31.",
    ]


def test_table_without_results_says_so() -> None:
    assert table("another", [result(Figure(row="r", values=[1.0]))]) == "Not measured yet."


def test_cells_have_readable_units_and_digits() -> None:
    for unit, seconds in {"µs": 1.234e-4, "ms": 0.01234, "s": 1.234}.items():
        assert cell(Figure(row="r", unit="s", values=[seconds])).endswith(f" {unit}")
    assert cell(Figure(row="r", unit="%", values=[0.999])) == "100 %"
    assert cell(Figure(row="r", unit="a second", values=[1234.5])) == "1,234 a second"


def test_result_replaces_an_older_one_of_the_same_benchmark_and_table(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    older, newer = (result(Figure(row="r", values=[value])) for value in (1.0, 2.0))
    keep([older, newer.model_copy(update={"table": "another"})], path)
    keep([newer], path)
    assert [(stored.table, stored.figures[0].values) for stored in read(path)] == [
        ("a", [2.0]),
        ("another", [2.0]),
    ]


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m benchmarks` with these arguments."""
    line = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    # This process may be a worker of pytest-xdist, where pytest-benchmark would measure nothing.
    environment = {key: value for key, value in os.environ.items() if "XDIST" not in key}
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_performance_page_shows_the_stored_results() -> None:
    done = command("report", "--check")
    assert done.returncode == 0, done.stderr


def test_run_stores_results_that_can_be_compared(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    done = command("run", "benchmarks/test_stimuli.py", "-k", "drawing", "--out", out)
    assert done.returncode == 0, done.stdout
    (stored,) = read(out)
    (figure,) = stored.figures
    assert len(figure.values) == 10 and min(figure.values) > 0

    slow_figure = figure.model_copy(update={"values": [rate / 1000 for rate in figure.values]})
    keep([stored.model_copy(update={"figures": (slow_figure,)})], out)
    done = command("compare", out)
    earlier = [
        committed
        for committed in read(ROOT / "benchmarks" / "results.json")
        if committed.benchmark == stored.benchmark
    ]
    if stored.machine.processor in {committed.machine.processor for committed in earlier}:
        assert done.returncode == 1 and "WORSE" in done.stdout
    else:  # rates on different processors are not compared
        assert done.returncode == 2 and "nothing to compare" in done.stderr


def test_missing_results_file_is_an_error(tmp_path: Path) -> None:
    done = command("compare", tmp_path / "no.json")
    assert done.returncode == 2 and "no.json" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["", "{}", '[{"benchmark": 3}]'])
def test_damaged_results_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "damaged.json").write_text(text)
    with pytest.raises(AttnbenchError, match=r"damaged\.json"):
        read(tmp_path / "damaged.json")


def test_damaged_results_file_is_an_error_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "damaged.json"
    path.write_text("{}")
    for arguments in (["compare", path], ["run", "--out", path]):
        done = command(*arguments)
        assert done.returncode == 2 and "damaged.json" in done.stderr
        assert "Traceback" not in done.stderr
    assert path.read_text() == "{}"
