"""What benchmarks measured: kept, set in tables, and set beside what was measured before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measured import Figure, Machine, Result, cell, compared, keep, read, table

ROOT = Path(__file__).parents[1]
MACHINE = Machine(processor="a processor", cores=2, python="3.11.7", packages={"torch": "2.14"})
RATIOS = st.lists(st.floats(0.1, 10.0), min_size=3, max_size=9)


def result(*figures: Figure, processor: str = "a processor") -> Result:
    machine = MACHINE.model_copy(update={"processor": processor})
    return Result(
        benchmark="test_a.py::test_b", table="a", day="2026-01-31", machine=machine, figures=figures
    )


def verdicts(now: Result, before: Result) -> list[bool]:
    return [worse for _, worse in compared([now], [before])]


@given(RATIOS)
def test_the_same_again_is_not_worse(values: list[float]) -> None:
    for more_is_better in (False, True):
        again = result(Figure(row="r", values=values, more_is_better=more_is_better))
        assert verdicts(again, again) == [False]


@given(RATIOS)
def test_what_lies_wholly_on_the_bad_side_is_worse(values: list[float]) -> None:
    beyond = [each + 11.0 for each in values]
    less, more = result(Figure(row="r", values=values)), result(Figure(row="r", values=beyond))
    assert verdicts(more, less) == [True] and verdicts(less, more) == [False]
    less, more = (
        result(Figure(row="r", values=each, more_is_better=True)) for each in (values, beyond)
    )
    assert verdicts(more, less) == [False] and verdicts(less, more) == [True]


def test_of_one_round_no_noise_is_known() -> None:
    before, now = result(Figure(row="r", values=[1.0])), result(Figure(row="r", values=[9.0]))
    assert verdicts(now, before) == []


def test_seconds_compare_on_one_processor_only_and_losses_never() -> None:
    slow, quick = (Figure(row="r", unit="s", values=[each] * 3) for each in (2.0, 1.0))
    assert verdicts(result(slow), result(quick)) == [True]
    assert verdicts(result(slow, processor="another"), result(quick)) == []
    loss = result(Figure(row="r", unit="nats", values=[1.0] * 3))
    assert verdicts(loss, loss) == []


def test_a_table() -> None:
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
        "EpisodeOutcome on a processor, 2 cores; Python 3.11.7, torch 2.14; 2026-01-31.",
    ]


def test_a_table_of_nothing_says_so() -> None:
    assert table("another", [result(Figure(row="r", values=[1.0]))]) == "Not measured yet."


def test_numbers_are_easily_read() -> None:
    told = {"µs": 1.234e-4, "ms": 0.01234, "s": 1.234}
    for unit, seconds in told.items():
        assert cell(Figure(row="r", unit="s", values=[seconds])).endswith(f" {unit}")
    assert cell(Figure(row="r", unit="%", values=[0.999])) == "100 %"
    assert cell(Figure(row="r", unit="a second", values=[1234.5])) == "1,234 a second"


def test_a_result_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    older, newer = (result(Figure(row="r", values=[each])) for each in (1.0, 2.0))
    keep([older, newer.model_copy(update={"table": "another"})], path)
    keep([newer], path)
    assert [(each.table, each.figures[0].values) for each in read(path)] == [
        ("a", [2.0]),
        ("another", [2.0]),
    ]


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    # pytest-benchmark measures nothing in a worker of xdist, which this process may be
    environment = {key: value for key, value in os.environ.items() if "XDIST" not in key}
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_performance_md_shows_what_was_measured() -> None:
    done = command("report", "--check")
    assert done.returncode == 0, done.stderr


def test_what_is_run_is_kept_and_can_be_compared(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    done = command("run", "benchmarks/test_stimuli.py", "-k", "drawing", "--out", out)
    assert done.returncode == 0, done.stdout
    (found,) = read(out)
    (figure,) = found.figures
    assert len(figure.values) == 10 and min(figure.values) > 0

    as_if_slow = figure.model_copy(update={"values": [each / 1000 for each in figure.values]})
    keep([found.model_copy(update={"figures": (as_if_slow,)})], out)
    done = command("compare", out)
    before = read(ROOT / "benchmarks" / "results.json")
    known = [each.machine.processor for each in before if each.benchmark == found.benchmark]
    if found.machine.processor in known:
        assert done.returncode == 1 and "WORSE" in done.stdout
    else:  # a rate of another processor says nothing
        assert done.returncode == 2 and "nothing to compare" in done.stderr


def test_a_file_that_is_none_of_results_is_told(tmp_path: Path) -> None:
    done = command("compare", tmp_path / "no.json")
    assert done.returncode == 2 and "no.json" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["", "{}", '[{"benchmark": 3}]'])
def test_a_damaged_file_of_results_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "damaged.json"
    path.write_text(text)
    for arguments in (["compare", path], ["run", "--out", path]):
        done = command(*arguments)
        assert done.returncode == 2 and "damaged.json" in done.stderr
        assert "Traceback" not in done.stderr
    assert path.read_text() == text
