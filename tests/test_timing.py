"""`attnbench check --timing`: what it measures, and that each of its three tests can fail."""

from __future__ import annotations

import pytest

from attnbench.commands import check_timing as check_timing_module
from attnbench.commands.check import DEFAULT_BACKBONE, noise_episode
from attnbench.commands.check_timing import (
    SLEEP_SECONDS,
    Estimate,
    TimingReport,
    _with_sleep,
    check_timing,
    problems_of,
)
from attnbench.errors import AttnbenchError
from attnbench.judge.conditions import Conditions
from attnbench.judge.judge import open_judge
from attnbench.judge.phase_timer import PhaseTimer
from attnbench.submission import load_submission
from tests.command_line import run

pytestmark = pytest.mark.usefixtures("quick_fork_servers")


def test_clock_includes_sleeps_and_phases_add_up() -> None:
    # On a busy machine, the only certain thing about a sleep is its minimum duration.
    report = check_timing("none", repeats=3)
    assert report.phases.keys() >= {"pass, rehearsal and adaptation", "prediction", "between"}
    assert sum(report.phases.values()) == pytest.approx(
        sum(seconds for name, seconds in report.phases.items() if name != "between")
        / (1 - report.gap)
    )
    assert 0 <= report.gap < 0.5
    # A third of the episodes sleep, both in their rehearsal and in their adaptation.
    assert report.phases["pass, rehearsal and adaptation"] > 3 * 2 * 0.1


def test_sleep_counts_as_adaptation_time() -> None:
    with open_judge(Conditions()) as judge:
        evaluator = judge.evaluator(DEFAULT_BACKBONE)
        episode = noise_episode(judge.resources.backbone(DEFAULT_BACKBONE))
        sleeping = _with_sleep(load_submission("none"))
        result = evaluator.judge(sleeping, episode, 60.0, cold=True).result
    assert result.cost is not None and result.cost.adaptation_seconds_cold is not None
    assert result.cost.adaptation_seconds >= SLEEP_SECONDS
    assert result.cost.adaptation_seconds_cold >= SLEEP_SECONDS


@pytest.mark.parametrize(
    ("ratio", "slept", "gap", "problem"),
    [
        ((1.01, 0.98, 1.03), (0.1002, 0.1001, 0.1004), 0.001, ""),
        ((1.05, 1.02, 1.08), (0.1002, 0.1001, 0.1004), 0.001, "same method, timed twice"),
        ((0.95, 0.92, 0.99), (0.1002, 0.1001, 0.1004), 0.001, "same method, timed twice"),
        ((1.0, 0.99, 1.01), (0.08, 0.079, 0.081), 0.001, "sleep of 100 ms was measured as 80 ms"),
        ((1.0, 0.7, 1.3), (0.08, 0.05, 0.11), 0.001, ""),
        ((1.0, 0.99, 1.01), (0.1, 0.099, 0.101), 0.1, "10% of the time"),
    ],
)
def test_each_of_the_three_tests_can_fail(
    ratio: tuple[float, ...], slept: tuple[float, ...], gap: float, problem: str
) -> None:
    problems = problems_of(Estimate(*ratio), Estimate(*slept), gap)
    assert len(problems) == bool(problem)
    assert all(problem in text for text in problems)


def test_phases_are_added_up_even_if_one_raises() -> None:
    timer = PhaseTimer()
    for _ in range(2):
        with timer.phase("one"):
            pass
    with pytest.raises(ValueError, match="no"), timer.phase("two"):
        raise ValueError("no")
    assert list(timer.seconds) == ["one", "two"] and min(timer.seconds.values()) > 0


def test_error_says_why_something_cannot_be_timed() -> None:
    with pytest.raises(AttnbenchError, match="vpt cannot be timed: prompts are tokens"):
        check_timing("vpt", repeats=1)
    with pytest.raises(AttnbenchError, match="unknown device"):
        check_timing(device="abacus")  # type: ignore[arg-type]


def test_check_needs_a_submission_or_timing() -> None:
    without_arguments = run("check")
    assert without_arguments.returncode == 2 and "--timing" in without_arguments.stderr


def test_report_shows_all_estimates_and_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    report = TimingReport(
        device="cpu",
        repeats=15,
        seconds=Estimate(0.123, 0.1, 0.15),
        ratio=Estimate(1.01, 1.002, 1.02),
        slept=Estimate(0.1003, 0.1, 0.101),
        phases={"pass": 1.0, "prediction": 2.9, "between": 0.1},
        gap=0.025,
        problems=("it does not hold",),
    )
    monkeypatch.setattr(check_timing_module, "check_timing", lambda submission, **_: report)
    for arguments, texts in (
        ([], ["123 ms [100, 150]", "1.010 x [1.002, 1.020]", "72.5%", "- it does not hold"]),
        (["--json"], ['"ratio": {"median": 1.01', '"problems": ["it does not hold"]']),
    ):
        ended = run("check", "--timing", *arguments)
        assert ended.returncode == 1 and all(text in ended.stdout for text in texts)
