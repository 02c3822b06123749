"""What the harness itself costs, beside what it measures.

    ATTNBENCH_DATA=DIR python -m benchmarks run benchmarks/test_harness.py

What needs the data of `small` is skipped without it.
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
from attnbench.judge.evaluator import Evaluator
from attnbench.isolation import Isolation
from attnbench.judge.worker_session import Jobs
from attnbench.judge.template import MALLOC, Template
from attnbench.stimuli.episodes import Episode, TrackStimuli
from attnbench.submission import load_submission
from attnbench.tasks import load_task
from benchmarks.conftest import Keep
from benchmarks.measured import Figure
from benchmarks.rounds import in_a_process, in_rounds, seconds_of
from tests.test_exploits import write

TABLE = "the harness"


@pytest.mark.parametrize(("arguments", "aim"), [(["--help"], 0.15), (["evaluate", "--help"], None)])
def test_help(
    benchmark: BenchmarkFixture, keep: Keep, arguments: list[str], aim: float | None
) -> None:
    """What it takes above Python's own start, in turn."""

    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    def more() -> float:
        python = seconds_of(lambda: run("-c", ""))
        return seconds_of(lambda: run("-m", "attnbench", *arguments)) - python

    row = f"`attnbench {' '.join(arguments)}`, more than Python's own start"
    keep(TABLE, Figure(row=row, unit="s", values=in_rounds(benchmark, more, 15), aim=aim))


@pytest.mark.slow
def test_first_episode(benchmark: BenchmarkFixture, keep: Keep, tmp_path: Path) -> None:
    """From the command to the first episode's line on stderr, nothing recorded yet."""

    def start() -> float:
        started = time.perf_counter()
        command = [sys.executable, "-m", "attnbench", "evaluate", "none"]
        command += ["--fresh", "--records", str(tmp_path)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert any(line.startswith("[1/") for line in process.stderr)
            took = time.perf_counter() - started
            process.send_signal(signal.SIGINT)
            return took

    took = in_rounds(benchmark, start, 5, warm_up=False)
    row = "`attnbench evaluate` on `mini`, start to first episode"
    keep(TABLE, Figure(row=row, unit="s", values=took, aim=6.0))


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    with Template() as template:
        yield template


def an_episode_of(track: str) -> tuple[Backbone, Episode, Path | None]:
    """The first episode of `imagenet-standard`, with its backbone and where its data is."""
    folder = os.environ.get("ATTNBENCH_DATA") if track == "small" else None
    if track == "small" and folder is None:
        pytest.skip("ATTNBENCH_DATA names no folder of data")
    data = None if folder is None else Path(folder)
    definition = load_task("imagenet-standard").tracks[track]  # type: ignore[index]
    backbone = load(definition.backbones[0], data=data)
    stimuli = TrackStimuli(definition, backbone.preprocessing, backbone.labels, data)
    return backbone, stimuli.episode(stimuli.targets[0], 0), data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("track", "isolation", "aim"),
    [("mini", "process", 0.12), ("mini", "bwrap", 0.15), ("small", "process", None)],
)
def test_what_the_judge_adds(
    benchmark: BenchmarkFixture, keep: Keep, track: str, isolation: Isolation, aim: float | None
) -> None:
    """An episode of `attention`: all but adapting and predicting, the rehearsal included."""
    if isolation == "bwrap" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    backbone, episode, data = an_episode_of(track)
    submission = load_submission("attention")

    def judge() -> tuple[float, float]:
        started = time.perf_counter()
        result, _ = evaluator.judge(submission, episode, 300.0, cold=False)
        total = time.perf_counter() - started
        assert result.cost is not None, result.reason
        added = total - result.cost.adaptation_seconds - result.cost.prediction_seconds
        return added, added / total

    with Template(isolation, data=data) as template:
        evaluator = Evaluator(backbone, template, device="cpu", untrained=False)
        rounds = in_rounds(benchmark, judge, 15 if track == "mini" else 3)
    added, shares = zip(*rounds, strict=True)
    row = f"what the judge adds to an episode of `attention`, `{track}`, `{isolation}`"
    seconds = Figure(row=row, unit="s", values=added, aim=aim)
    share = Figure(
        row=f"{row}, of the episode",
        unit="%",
        values=shares,
        aim=0.03 if track == "small" else None,
    )
    keep(TABLE, seconds, share)


def some_batches(episode: Episode) -> list[NDArray[np.int64]]:
    """All test images of `mini` in batches, of `small` as many as take some seconds."""
    return list(episode.batches(np.arange(len(episode.present))))[:100]


def loop_bare(track: str) -> list[float]:
    """Seconds of the network alone for each of `some_batches`.

    For a new process each time, as a worker is: how quick one is differs by a tenth from the next.
    """
    backbone, episode, _ = an_episode_of(track)
    images = [torch.from_numpy(episode.make(rows)) for rows in some_batches(episode)]

    def look(batch: torch.Tensor) -> None:
        backbone(channels_last(batch))

    with torch.no_grad():
        return [seconds_of(partial(look, batch)) for batch in images]


@pytest.mark.slow
@pytest.mark.parametrize("track", ["mini", "small"])
def test_prediction_beside_a_bare_loop(benchmark: BenchmarkFixture, keep: Keep, track: str) -> None:
    """The rate at which a worker is shown images and answers, over that of the network alone.

    `none` in its process against the same network on the same batches in another, in turn: both from
    their first batch on, and both behind it.
    """
    backbone, episode, data = an_episode_of(track)
    submission, batches = load_submission("none"), some_batches(episode)
    with Template(data=data) as template:
        template.load(backbone.name, untrained=False)
        labels = len(backbone.labels or ())
        jobs = Jobs(template, backbone=backbone.name, labels=labels, size=0, device="cpu")
        artefact = jobs.adapt(submission, episode, 300.0, warm_up=False).artefact

        def both() -> tuple[list[float], list[float]]:
            predicted = jobs.predict(
                submission, episode, artefact, batches, timeout=300.0, budget=300.0
            )
            template.settle()
            return list(predicted.seconds), in_a_process(MALLOC, loop_bare, track)

        rounds = in_rounds(benchmark, both, 20)
    row = f"prediction on `{track}`, its rate over a bare loop's"
    rates = [sum(loop) / sum(own) for own, loop in rounds]
    behind = [sum(loop[1:]) / sum(own[1:]) for own, loop in rounds]
    first = [own[0] - statistics.median(own[1:]) for own, _ in rounds]
    keep(
        TABLE,
        Figure(row=row, unit="%", values=rates, aim=0.95, more_is_better=True),
        Figure(
            row=f"{row}, both behind their first batch",
            unit="%",
            values=behind,
            aim=0.95,
            more_is_better=True,
        ),
        Figure(
            row=f"prediction on `{track}`, its first batch, more than another",
            unit="s",
            values=first,
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["endless", "endless_loading"])
def test_a_failure_beyond_its_timeout(
    benchmark: BenchmarkFixture, keep: Keep, template: Template, tmp_path: Path, name: str
) -> None:
    """From the timeout of a submission that never ends to its failure.

    Loading has prediction's budget, 5 seconds and 20 forwards, behind an adaptation that went well.
    """
    evaluator, episode = some_digits(template)
    submission = load_submission(write(f"faults/{name}", tmp_path))

    def judge() -> float:
        started = time.perf_counter()
        result, _ = evaluator.judge(submission, episode, 1.0, cold=False)
        beyond = time.perf_counter() - started - 1.0
        assert "timeout" in result.reason
        return beyond

    beyond = in_rounds(benchmark, judge, 3, warm_up=False)
    row = f"a failure behind its timeout, `{name}`"
    keep(TABLE, Figure(row=row, unit="s", values=beyond, aim=5.0))


def some_digits(template: Template) -> tuple[Evaluator, Episode]:
    """An evaluator, and an episode of `noisy-mnist` on `mini`."""
    backbone = load("shipped/digits-cnn")
    track = load_task("noisy-mnist").tracks["mini"]
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, None)
    evaluator = Evaluator(backbone, template, device="cpu", untrained=False)
    return evaluator, stimuli.episode("3", 0)


@pytest.mark.parametrize("name", ["none", "attention"])
def test_one_episode(
    benchmark: BenchmarkFixture, keep: Keep, template: Template, name: str
) -> None:
    """`none` is the harness alone: three processes, a pass, 450 test images."""
    evaluator, episode = some_digits(template)
    submission = load_submission(name)

    def judge() -> float:
        return seconds_of(lambda: evaluator.judge(submission, episode, 60.0, cold=False))

    took = in_rounds(benchmark, judge, 15)
    row = f"an episode of `{name}` on `noisy-mnist`, `mini`"
    keep(TABLE, Figure(row=row, unit="s", values=took))


def test_a_worker_starts(benchmark: BenchmarkFixture, keep: Keep, template: Template) -> None:
    template.load("shipped/digits-cnn", untrained=True)

    def start() -> None:
        with template.worker():
            pass
        template.settle()

    row = "a worker starts and ends"
    values = in_rounds(benchmark, lambda: seconds_of(start), 15)
    keep(TABLE, Figure(row=row, unit="s", values=values))
