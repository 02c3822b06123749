"""The clock's self-test: what it measures, and that each of its three tests can fail."""

from __future__ import annotations

import subprocess
import sys

import pytest

from attnbench import AttnbenchError, timing
from attnbench.backbones import load
from attnbench.commands.check import DEFAULT_BACKBONE, made_up_episode
from attnbench.cli.main import main
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.phase_timer import PhaseTimer
from attnbench.judge.template import Template
from attnbench.submission import load_submission
from attnbench.commands.check_timing import (
    SLEEP_SECONDS,
    Figure,
    TimingReport,
    _asleep,
    check_timing,
    problems_of,
)


def test_the_clock_sees_a_sleep_and_phases_add_up() -> None:
    # How exactly is what `attnbench check --timing` says; on a busy machine only what a sleep takes at
    # the least is sure.
    report = check_timing("none", repeats=3)
    assert report.phases.keys() >= {"pass, rehearsal and adaptation", "prediction", "between"}
    assert sum(report.phases.values()) == pytest.approx(
        sum(s for name, s in report.phases.items() if name != "between") / (1 - report.gap)
    )
    assert 0 <= report.gap < 0.5
    # Both rehearsal and adaptation of a third of all episodes slept.
    assert report.phases["pass, rehearsal and adaptation"] > 3 * 2 * 0.1


def test_a_sleep_is_in_the_time_of_the_adaptation() -> None:
    network = load(DEFAULT_BACKBONE)
    with Template() as template:
        evaluator = Evaluator(network, template, device="cpu", untrained=False)
        asleep = _asleep(load_submission("none"))
        result, _ = evaluator.judge(asleep, made_up_episode(network), 60.0, cold=True)
    assert result.cost is not None and result.cost.adaptation_seconds_cold is not None
    assert result.cost.adaptation_seconds >= SLEEP_SECONDS
    assert result.cost.adaptation_seconds_cold >= SLEEP_SECONDS


@pytest.mark.parametrize(
    ("ratio", "slept", "gap", "said"),
    [
        ((1.01, 0.98, 1.03), (0.1002, 0.1001, 0.1004), 0.001, ""),
        ((1.05, 1.02, 1.08), (0.1002, 0.1001, 0.1004), 0.001, "same method timed twice"),
        ((0.95, 0.92, 0.99), (0.1002, 0.1001, 0.1004), 0.001, "same method timed twice"),
        ((1.0, 0.99, 1.01), (0.08, 0.079, 0.081), 0.001, "sleep of 100 ms was seen as 80 ms"),
        ((1.0, 0.7, 1.3), (0.08, 0.05, 0.11), 0.001, ""),
        ((1.0, 0.99, 1.01), (0.1, 0.099, 0.101), 0.1, "10% of the time"),
    ],
)
def test_each_of_the_three_can_fail(
    ratio: tuple[float, ...], slept: tuple[float, ...], gap: float, said: str
) -> None:
    problems = problems_of(Figure(*ratio), Figure(*slept), gap)
    assert len(problems) == bool(said)
    assert all(said in problem for problem in problems)


def test_laps_are_added_up_even_where_a_phase_fails() -> None:
    laps = PhaseTimer()
    for _ in range(2):
        with laps("one"):
            pass
    with pytest.raises(ValueError, match="no"), laps("two"):
        raise ValueError("no")
    assert list(laps.seconds) == ["one", "two"] and min(laps.seconds.values()) > 0


def test_what_cannot_be_timed_says_why() -> None:
    with pytest.raises(AttnbenchError, match="vpt cannot be timed: prompts are tokens"):
        check_timing("vpt", repeats=1)
    with pytest.raises(AttnbenchError, match="unknown device"):
        check_timing(device="abacus")


def test_the_command_needs_a_submission_or_timing() -> None:
    command = [sys.executable, "-m", "attnbench", "check"]
    alone = subprocess.run(command, capture_output=True, text=True)
    assert alone.returncode == 2 and "--timing" in alone.stderr


def test_the_report_says_every_figure_and_what_does_not_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = TimingReport(
        device="cpu",
        repeats=15,
        seconds=Figure(0.123, 0.1, 0.15),
        ratio=Figure(1.01, 1.002, 1.02),
        slept=Figure(0.1003, 0.1, 0.101),
        phases={"pass": 1.0, "prediction": 2.9, "between": 0.1},
        gap=0.025,
        problems=("it does not hold",),
    )
    monkeypatch.setattr(timing, "check_timing", lambda submission, **_: report)
    for arguments, said in (
        ([], ["123 ms [100, 150]", "1.010 x [1.002, 1.020]", "72.5%", "- it does not hold"]),
        (["--json"], ['"ratio": {"median": 1.01', '"problems": ["it does not hold"]']),
    ):
        monkeypatch.setattr(sys, "argv", ["attnbench", "check", "--timing", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        printed = capsys.readouterr().out
        assert end.value.code == 1 and all(each in printed for each in said)
