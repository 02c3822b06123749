"""Many episodes: what an engine itself costs, and what a second worker brings.

`pytest benchmarks/test_scale.py -m "" --timeout 0 -s`
"""

from __future__ import annotations

import functools
import resource
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import attnbench
from attnbench.engines.dispatch import dispatch
from attnbench.engines.engine import Job
from attnbench.engines.seat import ProcessSeat
from attnbench.evaluation.environment import describe_environment
from attnbench.records.record import Cost, EpisodeResult, Identity, Measures
from attnbench.records.store import Measured
from attnbench.runs.events import Event
from attnbench.runs.planning import Plan
from attnbench.runs.recording import make_records
from attnbench.statistics.detection import detect
from attnbench.submission import load_submission
from attnbench.tasks import load_task

TARGETS, IMAGES = 200, 100


class Idle:
    """In a station's place: has every episode's result ready, and does nothing for it."""

    def __init__(self) -> None:
        present = np.arange(IMAGES) < IMAGES // 2
        scores = np.linspace(1, -1, IMAGES, dtype=np.float32)
        self._columns = {"image": ["an image"] * IMAGES, "present": present, "score": scores}
        self._measures = Measures.of(detect(scores, present))
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

    def __exit__(self, *ended: object) -> None:
        pass

    def judge(self, job: Job) -> Measured:
        result = EpisodeResult(
            target=job.target,
            status="ok",
            images_sha256="0" * 64,
            measures=self._measures,
            cost=self._cost,
        )
        scores = pa.table({"target": [job.target] * IMAGES} | self._columns)
        return Measured(result, scores, self._environment)


def plans(episodes: int) -> list[Plan]:
    submission, task = load_submission("none"), load_task("noisy-mnist")
    return [
        Plan(
            submission=submission,
            track=task.tracks["mini"],
            targets=tuple(f"target {n}" for n in range(TARGETS)),
            timeout=60.0,
            identity=Identity(
                submission="none",
                submission_sha256=submission.sha256,
                task=task.name,
                task_version=task.version,
                task_sha256=task.content_hash,
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


@pytest.mark.parametrize("episodes", [1_000, 10_000])
def test_what_an_episode_costs_the_engine(
    benchmark: BenchmarkFixture, tmp_path: Path, episodes: int
) -> None:
    """With two workers that do nothing: dispatch, scores on disk, records."""
    seats = [ProcessSeat(Idle, {}) for _ in range(2)]
    run = functools.partial(dispatch, seats)
    events: deque[Event] = deque(maxlen=1)

    def record() -> None:
        make_records(plans(episodes), run, tmp_path, modules=(), fresh=True, tell=events.append)

    before = peak_mebibytes()
    started = time.perf_counter()
    benchmark.pedantic(record, rounds=1)
    rate = episodes / (time.perf_counter() - started)
    benchmark.extra_info["episodes_per_second"] = rate
    benchmark.extra_info["mebibytes_more"] = peak_mebibytes() - before
    print(f"{episodes:,} episodes: {rate:.0f} a second, {peak_mebibytes() - before:.0f} MiB more")


def peak_mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / str(number) for number in range(100))  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["none", "attention"])
def test_two_workers_beside_one(
    benchmark: BenchmarkFixture, folders: Iterator[Path], name: str
) -> None:
    """Episodes a minute on mini, three seeds, with one worker and two in turn, and their ratio."""
    rates: dict[int, list[float]] = {1: [], 2: []}

    def both() -> None:
        for workers in rates:
            started = time.perf_counter()
            frame = attnbench.evaluate([name], seeds=3, records=next(folders), workers=workers)
            rates[workers].append(frame["targets"].sum() / (time.perf_counter() - started) * 60)

    benchmark.pedantic(both, rounds=2)
    one, two = (float(np.median(each)) for each in rates.values())
    benchmark.extra_info |= {"a_minute_with_1": one, "a_minute_with_2": two, "ratio": two / one}
    print(f"{name}: {one:.0f} and {two:.0f} episodes a minute, {two / one:.2f} x")
