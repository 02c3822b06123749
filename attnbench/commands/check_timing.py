"""`attnbench check --timing`: three tests of the clock on this machine."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from attnbench.commands.check import DEFAULT_BACKBONE, noise_episode
from attnbench.devices import require_device
from attnbench.errors import AttnbenchError
from attnbench.judge.conditions import Conditions
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.judge import open_judge
from attnbench.statistics.intervals import median_interval
from attnbench.stimuli.episode import Episode
from attnbench.submission import SOURCE, Submission, load_submission
from attnbench.vocabulary import DeviceKind

SLEEP_SECONDS = 0.1
_IMAGES_PER_CLASS = 24
_TIMEOUT_SECONDS = 300.0
# On an idle machine, a sleep overshoots by far less than 5 ms. The time between phases is far less than
# 2 % of the whole.
_SLEEP_TOLERANCE, _GAP_TOLERANCE = 0.005, 0.02

# Appended to the source of the submission.
_SLEEPING = f"""

_without_sleep = adapt


def adapt(*images, **settings):
    import time

    time.sleep({SLEEP_SECONDS})
    return _without_sleep(*images, **settings)
"""


@dataclass(frozen=True)
class Estimate:
    """A median and its 95 % confidence interval."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Estimate:
        """Estimate the median of these values.

        Args:
            values: a sample, with at least one value.
        """
        return cls(*median_interval(values))


@dataclass(frozen=True)
class TimingReport:
    """The results of the tests of the clock.

    Attributes:
        device: where the adaptations ran.
        repeats: how often each version was timed.
        seconds: the duration of an adaptation.
        ratio: the duration of a second, identical adaptation, divided by that of the first. It is 1
            if the clock is right.
        slept: how many seconds longer the version took that sleeps for `SLEEP_SECONDS`.
        phases: the total seconds of each phase over all repeats, and those `between` phases.
        gap: the share of wall-clock time that belongs to no phase.
        problems: what is wrong with the clock; empty if it is right.
    """

    device: str
    repeats: int
    seconds: Estimate
    ratio: Estimate
    slept: Estimate
    phases: dict[str, float]
    gap: float
    problems: tuple[str, ...]


def check_timing(
    submission: str | Path = "attention",
    *,
    device: DeviceKind = "cpu",
    repeats: int = 15,
    data: Path | None = None,
) -> TimingReport:
    """Time a submission against itself, and against a version that sleeps, in turn.

    1. Two identical versions: the interval of their median ratio contains 1.
    2. A version that sleeps for 100 ms in `adapt` takes 100 ms longer.
    3. The phases of the episodes (pass, adaptation, counting, prediction) add up to their duration.

    Args:
        submission: a folder, or the name of a shipped submission.
        device: `cpu` or `cuda`.
        repeats: how often each version is timed.
        data: a folder that may hold the backbone's weights.

    Raises:
        AttnbenchError: if the submission cannot be read, or fails.
    """
    require_device(device)
    plain = load_submission(submission)
    versions = {"first": plain, "second": plain, "sleeping": _with_sleep(plain)}
    timed: dict[str, list[float]] = {name: [] for name in versions}
    with open_judge(Conditions(device=device, modules=plain.modules, data=data)) as judge:
        evaluator = judge.evaluator(DEFAULT_BACKBONE)
        network = judge.resources.backbone(DEFAULT_BACKBONE)
        episode = noise_episode(network, per_class=_IMAGES_PER_CLASS)
        for version in versions.values():  # the first run of each finds cold caches
            _adaptation_seconds(evaluator, version, episode)
        evaluator.timer.seconds.clear()
        started = time.perf_counter()
        names = list(versions)
        for number in range(repeats):
            # Rotate the order, so that no version always comes first or follows the sleeping one.
            for name in [*names[number % 3 :], *names[: number % 3]]:
                timed[name].append(_adaptation_seconds(evaluator, versions[name], episode))
        wall = time.perf_counter() - started
        phases = dict(evaluator.timer.seconds)
    triples = list(zip(*timed.values(), strict=True))
    ratio = Estimate.of([second / first for first, second, _ in triples])
    slept = Estimate.of([sleeping - (first + second) / 2 for first, second, sleeping in triples])
    gap = 1 - sum(phases.values()) / wall
    return TimingReport(
        device=device,
        repeats=repeats,
        seconds=Estimate.of([first for first, _, _ in triples]),
        ratio=ratio,
        slept=slept,
        phases=phases | {"between": gap * wall},
        gap=gap,
        problems=tuple(problems_of(ratio, slept, gap)),
    )


def _adaptation_seconds(evaluator: Evaluator, submission: Submission, episode: Episode) -> float:
    result = evaluator.judge(submission, episode, _TIMEOUT_SECONDS, cold=False).result
    if result.cost is None:
        raise AttnbenchError(f"{submission.name} cannot be timed: {result.reason}")
    return result.cost.adaptation_seconds


def _with_sleep(submission: Submission) -> Submission:
    """Return the same submission, except that `adapt` sleeps first."""
    source = submission.files[SOURCE] + _SLEEPING.encode()
    return replace(submission, files={**submission.files, SOURCE: source})


def problems_of(ratio: Estimate, slept: Estimate, gap: float) -> list[str]:
    """Return what is wrong with the clock, or an empty list if it is right.

    Args:
        ratio, slept, gap: see `TimingReport`.
    """
    problems = []
    if not ratio.low <= 1 <= ratio.high:
        problems.append(
            "the same method, timed twice, gave different times: is other work running on this "
            "machine?"
        )
    tolerance = max(_SLEEP_TOLERANCE, (slept.high - slept.low) / 2)
    if abs(slept.median - SLEEP_SECONDS) > tolerance:
        problems.append(
            f"a sleep of {SLEEP_SECONDS * 1000:.0f} ms was measured as {slept.median * 1000:.0f} ms"
        )
    if gap > _GAP_TOLERANCE:
        problems.append(f"{gap:.0%} of the time is in no phase of the episodes")
    return problems
