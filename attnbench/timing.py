"""`attnbench check --timing`: does the clock hold on this machine? Three tests that it could fail."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from attnbench.backbones import load
from attnbench.checking import DEFAULT_BACKBONE, made_up_episode
from attnbench.errors import AttnbenchError
from attnbench.evaluation.evaluator import Evaluator
from attnbench.evaluation.warm import Template
from attnbench.runs.planning import require_device
from attnbench.statistics.intervals import median_interval
from attnbench.submission import SOURCE, Submission, load_submission

SLEEP_SECONDS = 0.1
_IMAGES_PER_SIDE = 24
_TIMEOUT = 300.0
# What a sleep overshoots by on an idle machine is far less; what two phases leave between them too.
_SLEEP_TOLERANCE, _GAP_TOLERANCE = 0.005, 0.02

_ASLEEP = f"""

_awake = adapt


def adapt(*images, **settings):
    import time

    time.sleep({SLEEP_SECONDS})
    return _awake(*images, **settings)
"""


@dataclass(frozen=True)
class Figure:
    """A median, and the ends of its 95 % interval."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Figure:
        return cls(*median_interval(values))


@dataclass(frozen=True)
class TimingReport:
    """What the clock said, and what is wrong with that.

    Attributes:
        device: where the adaptations ran.
        repeats: how many of each there were.
        seconds: of an adaptation.
        ratio: of the same adaptation to itself, one after the other; 1 where the clock holds.
        slept: seconds by which the one that sleeps 0.1 s longer took longer.
        phases: seconds of each phase of the repeats, in their order, and of what lies between.
        gap: the share of the repeats' wall time that no phase has.
        problems: what does not hold, in words; none where all does.
    """

    device: str
    repeats: int
    seconds: Figure
    ratio: Figure
    slept: Figure
    phases: dict[str, float]
    gap: float
    problems: tuple[str, ...]


def check_timing(
    submission: str | Path = "attention",
    *,
    device: str = "cpu",
    repeats: int = 15,
    data: Path | None = None,
) -> TimingReport:
    """Time a submission against itself, and against itself with a sleep, in turn.

    1. The same twice: the interval of the median ratio holds 1.
    2. One that sleeps 100 ms in `adapt` is 100 ms slower.
    3. The phases of its episodes (the pass, the adaptation, counting, prediction) add up to their time.

    Args:
        submission: a folder, or the name of a shipped submission.
        device: `cpu` or `cuda`.
        repeats: how often each is timed.
        data: a folder that may hold the backbone's weights.

    Raises:
        AttnbenchError: where the submission cannot be read, or does not run.
    """
    require_device(device)
    awake = load_submission(submission)
    versions = {"first": awake, "second": awake, "asleep": _asleep(awake)}
    network = load(DEFAULT_BACKBONE, data=data)
    episode = made_up_episode(network, per_side=_IMAGES_PER_SIDE)
    timed: dict[str, list[float]] = {name: [] for name in versions}
    with Template(data=data) as template:
        template.import_modules(awake.modules)
        evaluator = Evaluator(network, template, device=device, untrained=False)

        def seconds_of(name: str) -> float:
            result, _ = evaluator.judge(versions[name], episode, _TIMEOUT, cold=False)
            if result.cost is None:
                raise AttnbenchError(f"{awake.name} cannot be timed: {result.reason}")
            return result.cost.adaptation_seconds

        for name in versions:  # the first of each finds cold caches
            seconds_of(name)
        evaluator.laps.seconds.clear()
        started = time.perf_counter()
        for number in range(repeats):
            # None is always the first, or the one behind the one that slept.
            for name in [*list(versions)[number % 3 :], *list(versions)[: number % 3]]:
                timed[name].append(seconds_of(name))
        wall = time.perf_counter() - started
        phases = dict(evaluator.laps.seconds)
    pairs = list(zip(*timed.values(), strict=True))
    ratio = Figure.of([second / first for first, second, _ in pairs])
    slept = Figure.of([asleep - (first + second) / 2 for first, second, asleep in pairs])
    gap = 1 - sum(phases.values()) / wall
    return TimingReport(
        device=device,
        repeats=repeats,
        seconds=Figure.of([first for first, _, _ in pairs]),
        ratio=ratio,
        slept=slept,
        phases=phases | {"between": gap * wall},
        gap=gap,
        problems=tuple(problems_of(ratio, slept, gap)),
    )


def _asleep(submission: Submission) -> Submission:
    """The same submission, but that `adapt` sleeps first."""
    source = submission.files[SOURCE] + _ASLEEP.encode()
    return replace(submission, files={**submission.files, SOURCE: source})


def problems_of(ratio: Figure, slept: Figure, gap: float) -> list[str]:
    """What these figures of a `TimingReport` say against the clock, in words."""
    problems = []
    if not ratio.low <= 1 <= ratio.high:
        problems.append(
            "the same method timed twice gave two times: is something else running on the machine?"
        )
    allowed = max(_SLEEP_TOLERANCE, (slept.high - slept.low) / 2)
    if abs(slept.median - SLEEP_SECONDS) > allowed:
        problems.append(
            f"a sleep of {SLEEP_SECONDS * 1000:.0f} ms was seen as {slept.median * 1000:.0f} ms"
        )
    if gap > _GAP_TOLERANCE:
        problems.append(f"{gap:.0%} of the time is in no phase of the episodes")
    return problems
