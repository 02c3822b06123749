"""What attnbench itself costs on top of what it measures.

    ATTNBENCH_DATA=DIR python -m benchmarks run benchmarks/test_harness.py

Benchmarks that need the data of `small` are skipped without it.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from attnbench.adaptation import channels_last
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.isolation.confinement import limits_for
from attnbench.judge.conditions import Conditions
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.judge import open_judge
from attnbench.judge.template import MALLOC_TUNABLES, Template
from attnbench.judge.worker_session import WorkerSession
from attnbench.stimuli.episode import Episode
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.submission import load_submission
from attnbench.tasks import load_task
from attnbench.vocabulary import IsolationLevel
from benchmarks.conftest import Keep
from benchmarks.measured import Figure
from benchmarks.rounds import in_process, in_rounds, seconds_of
from tests.exploit_judge import write

TABLE = "the harness"


@pytest.mark.parametrize(("arguments", "aim"), [(["--help"], 0.15), (["evaluate", "--help"], None)])
def test_help(
    benchmark: BenchmarkFixture, keep: Keep, arguments: list[str], aim: float | None
) -> None:
    """Time of `--help` beyond that of starting Python, measured in turn."""

    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    def additional_seconds() -> float:
        python = seconds_of(lambda: run("-c", ""))
        return seconds_of(lambda: run("-m", "attnbench", *arguments)) - python

    row = f"`attnbench {' '.join(arguments)}`, more than Python's own start"
    values = in_rounds(benchmark, additional_seconds, 15)
    keep(TABLE, Figure(row=row, unit="s", values=values, aim=aim))


@pytest.mark.slow
def test_first_episode(benchmark: BenchmarkFixture, keep: Keep, tmp_path: Path) -> None:
    """Time from the command to the first episode's line on stderr, without earlier records."""

    def start() -> float:
        started = time.perf_counter()
        command = [sys.executable, "-m", "attnbench", "evaluate", "none"]
        command += ["--fresh", "--records", str(tmp_path)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert any(line.startswith("[1/") for line in process.stderr)
            seconds = time.perf_counter() - started
            process.send_signal(signal.SIGINT)
            return seconds

    values = in_rounds(benchmark, start, 5, warm_up=False)
    row = "`attnbench evaluate` on `mini`, start to first episode"
    keep(TABLE, Figure(row=row, unit="s", values=values, aim=5.0))


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    with Template("process", limits=limits_for(3600.0)) as template:
        yield template


def first_episode_of(track: str) -> tuple[Backbone, Episode, Path | None]:
    """Return the first episode of `imagenet-standard`, its backbone and its data folder."""
    folder = os.environ.get("ATTNBENCH_DATA") if track == "small" else None
    if track == "small" and folder is None:
        pytest.skip("the variable ATTNBENCH_DATA must name the data folder")
    data = None if folder is None else Path(folder)
    definition = load_task("imagenet-standard").tracks[track]  # type: ignore[index]
    backbone = load(definition.backbones[0], data=data)
    stimuli = TrackStimuli(definition, backbone.preprocessing, backbone.labels, data)
    return backbone, stimuli.episode(stimuli.targets[0], 0), data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("track", "isolation"), [("mini", "process"), ("mini", "bwrap"), ("small", "process")]
)
def test_what_the_judge_adds(
    benchmark: BenchmarkFixture,
    keep: Keep,
    track: str,
    isolation: IsolationLevel,
) -> None:
    """Time of an episode of `attention` without adaptation and prediction.

    Here the adaptation is tested once. `test_track.py` measures one that is tested three times.
    """
    if isolation == "bwrap" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    backbone, episode, data = first_episode_of(track)
    submission = load_submission("attention")

    def judge_episode() -> tuple[float, float]:
        started = time.perf_counter()
        result = evaluator.judge(submission, episode, 300.0, cold=False).result
        total = time.perf_counter() - started
        assert result.cost is not None, result.reason
        added = total - result.cost.adaptation_seconds - result.cost.prediction_seconds
        return added, added / total

    conditions = Conditions(isolation=isolation, data=data, modules=submission.modules)
    with open_judge(conditions) as judge:
        evaluator = judge.evaluator(backbone.name)
        rounds = in_rounds(benchmark, judge_episode, 15 if track == "mini" else 3)
    seconds, fractions = zip(*rounds, strict=True)
    row = f"what the judge adds to an episode of `attention`, `{track}`, `{isolation}`"
    keep(
        TABLE,
        Figure(row=row, unit="s", values=seconds),
        Figure(row=f"{row}, of the episode", unit="%", values=fractions),
    )


def first_batches(episode: Episode) -> list[NDArray[np.int64]]:
    """Return all test batches of `mini`, or as many of `small` as take some seconds."""
    return list(episode.batches(np.arange(len(episode.present))))[:100]


def bare_loop(track: str) -> list[float]:
    """Return the seconds that the network alone takes for each of `first_batches`.

    Call it in a new process in each round, as a worker is one: processes differ in speed by a
    tenth.
    """
    backbone, episode, _ = first_episode_of(track)
    images = [torch.from_numpy(episode.make(rows)) for rows in first_batches(episode)]

    def forward(batch: torch.Tensor) -> None:
        backbone(channels_last(batch))

    with torch.no_grad():
        return [seconds_of(partial(forward, batch)) for batch in images]


@pytest.mark.slow
@pytest.mark.parametrize("track", ["mini", "small"])
def test_prediction_beside_a_bare_loop(benchmark: BenchmarkFixture, keep: Keep, track: str) -> None:
    """The rate at which a worker scores images, relative to that of the network alone.

    The submission is `none`. The same network processes the same batches in another process, in
    turn. The first batch is included in one ratio and left out of the other.
    """
    backbone, episode, data = first_episode_of(track)
    submission, batches = load_submission("none"), first_batches(episode)
    limits, modules = limits_for(3600.0), submission.modules
    with Template("process", limits=limits, modules=modules, data=data) as template:
        template.load(backbone.name, untrained=False)
        labels = len(backbone.labels or ())
        session = WorkerSession(
            template, backbone=backbone.name, labels=labels, size=0, device="cpu"
        )
        artefact = session.adapt(submission, episode, 300.0, rehearse=False).artefact

        def measure() -> tuple[list[float], list[float]]:
            (prediction,) = session.predict(
                submission, [(episode, batches)], artefact, timeout=300.0, budget=300.0
            )
            template.settle()
            loop = in_process(MALLOC_TUNABLES, bare_loop, track)
            return list(prediction.batch_seconds), loop

        rounds = in_rounds(benchmark, measure, 20)
    row = f"prediction on `{track}`, its rate over a bare loop's"
    ratios = [sum(loop) / sum(worker) for worker, loop in rounds]
    later_ratios = [sum(loop[1:]) / sum(worker[1:]) for worker, loop in rounds]
    first_batch = [worker[0] - statistics.median(worker[1:]) for worker, _ in rounds]
    keep(
        TABLE,
        Figure(row=row, unit="%", values=ratios, aim=0.95, more_is_better=True),
        Figure(
            row=f"{row}, both without their first batch",
            unit="%",
            values=later_ratios,
            aim=0.95,
            more_is_better=True,
        ),
        Figure(
            row=f"prediction on `{track}`, its first batch, more than another",
            unit="s",
            values=first_batch,
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["endless", "endless_loading"])
def test_a_failure_beyond_its_timeout(
    benchmark: BenchmarkFixture, keep: Keep, template: Template, tmp_path: Path, name: str
) -> None:
    """Time from the timeout of a submission that never ends until its failure is reported.

    Loading a detector has the budget of prediction, 5 seconds and 20 forward passes, which starts
    after a successful adaptation.
    """
    evaluator, episode = digits_episode(template)
    submission = load_submission(write(f"faults/{name}", tmp_path))

    def judge_episode() -> float:
        started = time.perf_counter()
        result = evaluator.judge(submission, episode, 1.0, cold=False).result
        seconds = time.perf_counter() - started - 1.0
        assert "timeout" in result.reason
        return seconds

    values = in_rounds(benchmark, judge_episode, 3, warm_up=False)
    row = f"a failure after its timeout, `{name}`"
    keep(TABLE, Figure(row=row, unit="s", values=values, aim=5.0))


def digits_episode(template: Template) -> tuple[Evaluator, Episode]:
    """Return an evaluator and an episode of `noisy-mnist` on `mini`."""
    backbone = load("shipped/digits-cnn")
    track = load_task("noisy-mnist").tracks["mini"]
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, None)
    evaluator = Evaluator(backbone, template, device="cpu", untrained=False)
    return evaluator, stimuli.episode("3", 0)


@pytest.mark.parametrize("name", ["none", "attention"])
def test_one_episode(
    benchmark: BenchmarkFixture, keep: Keep, template: Template, name: str
) -> None:
    """Time of an episode. For `none` it is attnbench's: three processes, a pass, 450 images."""
    evaluator, episode = digits_episode(template)
    submission = load_submission(name)

    def judge_episode() -> float:
        return seconds_of(lambda: evaluator.judge(submission, episode, 60.0, cold=False))

    values = in_rounds(benchmark, judge_episode, 15)
    row = f"an episode of `{name}` on `noisy-mnist`, `mini`"
    keep(TABLE, Figure(row=row, unit="s", values=values))


def test_a_worker_starts(benchmark: BenchmarkFixture, keep: Keep, template: Template) -> None:
    template.load("shipped/digits-cnn", untrained=True)

    def start_and_end() -> None:
        with template.worker():
            pass
        template.settle()

    row = "a worker starts and ends"
    values = in_rounds(benchmark, lambda: seconds_of(start_and_end), 15)
    keep(TABLE, Figure(row=row, unit="s", values=values))
