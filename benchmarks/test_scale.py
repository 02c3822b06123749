"""Large runs: many episodes, workers, records and targets.

python -m benchmarks run benchmarks/test_scale.py
"""

from __future__ import annotations

import functools
import resource
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import attnbench
from attnbench.commands.leaderboard import build_leaderboard
from attnbench.engines.engine import Job
from attnbench.engines.pool import run_on_pool
from attnbench.engines.runner_process import ProcessRunner
from attnbench.judge.environment import describe_environment
from attnbench.records.outcome import EpisodeOutcome, scores_table
from attnbench.records.record import Cost, EpisodeResult, Identity, Measures
from attnbench.runs.events import Event
from attnbench.runs.planning import Plan
from attnbench.runs.record_writer import make_records
from attnbench.statistics.detection import detect
from attnbench.statistics.intervals import d_prime_interval
from attnbench.statistics.measures import Counts
from attnbench.submission import load_submission
from attnbench.tasks import list_tasks, load_task
from benchmarks import made_up_records
from benchmarks.conftest import Keep
from benchmarks.measured import Figure
from benchmarks.rounds import in_rounds, seconds_of

TABLE, TARGETS, IMAGES = "at scale", 200, 100


class IdleRunner:
    """An episode runner that returns the same outcome for every episode and does no work."""

    def __init__(self) -> None:
        self._present = np.arange(IMAGES) < IMAGES // 2
        self._scores = np.linspace(1, -1, IMAGES, dtype=np.float32)
        self._measures = Measures.of(detect(self._scores, self._present))
        self._cost = Cost(
            parameters_added=1,
            parameters_changed=0,
            artefact_bytes=1,
            adaptation_seconds=0.1,
            adaptation_seconds_cold=None,
            pass_seconds=0.1,
            prediction_seconds=0.1,
        )
        self._environment = describe_environment("cpu", ())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def judge(self, job: Job) -> list[EpisodeOutcome]:
        result = EpisodeResult(
            target=job.target,
            status="ok",
            images_sha256="0" * 64,
            measures=self._measures,
            cost=self._cost,
        )
        scores = scores_table(job.target, ["an image"] * IMAGES, self._present, self._scores)
        return [EpisodeOutcome(result, scores, self._environment)]


def plans(episodes: int) -> list[Plan]:
    """Return plans for records with this many episodes in total."""
    submission, task = load_submission("none"), load_task("noisy-mnist")
    return [
        Plan(
            submission=submission,
            track=task.tracks["mini"],
            backbone="shipped/digits-cnn",
            targets=tuple(f"target {number}" for number in range(TARGETS)),
            timeout=60.0,
            identity=Identity(
                submission="none",
                submission_sha256=submission.sha256,
                task=task.name,
                task_version=task.version,
                task_sha256=task.content_hash("mini"),
                track="mini",
                backbone="shipped/digits-cnn",
                backbone_sha256="0" * 64,
                untrained=False,
                seed=seed,
                device="cpu",
                isolation="process",
            ),
        )
        for seed in range(episodes // TARGETS)
    ]


@pytest.mark.parametrize("episodes", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_what_an_episode_costs_the_engine(
    benchmark: BenchmarkFixture, keep: Keep, tmp_path: Path, episodes: int
) -> None:
    """Queue, scores on disk and records, with two runners that do no work."""
    runners = [ProcessRunner(IdleRunner, {}) for _ in range(2)]
    run_jobs = functools.partial(run_on_pool, runners)
    events: deque[Event] = deque(maxlen=1)

    def record() -> None:
        make_records(plans(episodes), run_jobs, tmp_path, fresh=True, report=events.append)

    before = peak_mebibytes()
    (seconds,) = in_rounds(benchmark, lambda: seconds_of(record), 1, warm_up=False)
    row = f"{episodes:,} episodes, two workers that do nothing"
    rate = Figure(row=row, unit="a second", values=[episodes / seconds], more_is_better=True)
    memory = Figure(row=f"{row}: memory", unit="MiB", values=[peak_mebibytes() - before])
    keep(TABLE, rate, memory)


def peak_mebibytes() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.slow
@pytest.mark.parametrize("name", ["none", "attention"])
def test_two_workers_beside_one(
    benchmark: BenchmarkFixture, keep: Keep, tmp_path: Path, name: str
) -> None:
    """Episodes per minute on `mini` with three seeds, for one worker and two in turn."""
    folders = (tmp_path / str(number) for number in range(100))

    def episodes_per_minute(workers: int) -> float:
        started = time.perf_counter()
        frame = attnbench.evaluate([name], seeds=3, records=next(folders), workers=workers)
        return float(frame["targets"].sum()) / (time.perf_counter() - started) * 60

    def measure() -> tuple[float, float]:
        return episodes_per_minute(1), episodes_per_minute(2)

    one_worker, two_workers = zip(*in_rounds(benchmark, measure, 3, warm_up=False), strict=True)
    row = f"`{name}` on `mini`, two workers over one"
    ratios = [two / one for one, two in zip(one_worker, two_workers, strict=True)]
    keep(
        TABLE,
        Figure(row=f"`{name}` on `mini`", unit="a minute", values=one_worker, more_is_better=True),
        Figure(row=row, values=ratios, more_is_better=True),
    )


@pytest.mark.parametrize("records", [50, pytest.param(2_500, marks=pytest.mark.slow)])
def test_a_leaderboard_of_many_records(
    benchmark: BenchmarkFixture, keep: Keep, tmp_path: Path, records: int
) -> None:
    """The whole command: reading and checking records, intervals, ranks, Markdown and site."""
    made_up_records.main(tmp_path / "records", records)
    command = [sys.executable, "-m", "attnbench", "leaderboard"]
    command += ["--records", str(tmp_path / "records"), "--out", str(tmp_path / "leaderboard.md")]
    command += ["--site", str(tmp_path / "site")]

    def build() -> None:
        subprocess.run(command, check=True, capture_output=True)

    values = in_rounds(benchmark, lambda: seconds_of(build), 3, warm_up=False)
    row = f"`attnbench leaderboard --site` of {records:,} records"
    keep(TABLE, Figure(row=row, unit="s", values=values))


def test_a_comparison_of_two_methods(
    benchmark: BenchmarkFixture, keep: Keep, tmp_path: Path
) -> None:
    """The whole command, on ten seeds of every task with each method."""
    records = made_up_records.EXTENT.seeds * len(list_tasks())
    made_up_records.main(tmp_path, 2 * records)
    names = sorted({path.name.split("@")[0] for path in tmp_path.glob("*/*/*.json")})
    command = [sys.executable, "-m", "attnbench", "compare", *names, "--records", str(tmp_path)]

    def compare() -> None:
        subprocess.run(command, check=True, capture_output=True)

    values = in_rounds(benchmark, lambda: seconds_of(compare), 3, warm_up=False)
    keep(
        TABLE, Figure(row=f"`attnbench compare` of 2 x {records} records", unit="s", values=values)
    )


@pytest.mark.parametrize("methods", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_standings_of_many_targets(
    benchmark: BenchmarkFixture, keep: Keep, tmp_path: Path, methods: int
) -> None:
    """Reading and checking the records of three tasks of 40 targets, and computing the page."""
    tasks = ("alpha-blend", "imagenet-a", "imagenet-standard")
    extent = made_up_records.Extent(tasks, targets=40, seeds=1)
    made_up_records.main(tmp_path, len(tasks) * methods, extent)
    (standings,) = build_leaderboard([tmp_path]).boards
    assert (standings.targets, len(standings.compared)) == (40, 3)
    assert all(row.placement.ranks is not None for row in standings.rows)

    def build() -> float:
        return seconds_of(lambda: build_leaderboard([tmp_path]))

    row = f"standings of {methods} methods on three tasks of 40 targets"
    keep(TABLE, Figure(row=row, unit="s", values=in_rounds(benchmark, build, 3, warm_up=False)))


def test_an_interval_of_many_targets(benchmark: BenchmarkFixture, keep: Keep) -> None:
    counts = [[Counts(40, 50, 100, 2000)]] * 200

    def interval() -> float:
        return seconds_of(lambda: d_prime_interval(counts))

    row = "the interval of d′ over 200 targets"
    keep(TABLE, Figure(row=row, unit="s", values=in_rounds(benchmark, interval, 15)))
