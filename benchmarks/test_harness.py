"""What the harness itself costs, beside what it measures: `tox -e benchmarks`."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from attnbench.adaptation import channels_last
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.evaluation.evaluator import Evaluator
from attnbench.evaluation.isolation import Isolation
from attnbench.evaluation.jobs import Jobs
from attnbench.evaluation.warm import MALLOC, Template
from attnbench.statistics.detection import Counts
from attnbench.statistics.intervals import d_prime_interval, median_interval
from attnbench.stimuli import figures
from attnbench.stimuli.episodes import Episode, TrackStimuli
from attnbench.submission import load_submission
from attnbench.tasks import load_task
from tests.test_exploits import write


@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "--help"]], ids=" ".join)
def test_help(benchmark: BenchmarkFixture, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "attnbench", *arguments]
    benchmark(subprocess.run, command, check=True, capture_output=True)


def test_first_episode(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """From the command to the first episode's line on stderr, nothing recorded yet."""

    def start() -> None:
        command = [sys.executable, "-m", "attnbench", "evaluate", "none", "--records", tmp_path]
        with subprocess.Popen([*command, "--fresh"], stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert any(line.startswith("[1/") for line in process.stderr)
            process.send_signal(signal.SIGINT)

    benchmark.pedantic(start, rounds=5)


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


@pytest.mark.parametrize(
    ("track", "isolation"), [("mini", "process"), ("mini", "bwrap"), ("small", "process")]
)
def test_what_the_judge_adds(benchmark: BenchmarkFixture, track: str, isolation: Isolation) -> None:
    """An episode of `attention`: all but adapting and predicting, the rehearsal included.

    The judge's own time is in `extra_info`, in seconds and as a share of the episode. `small` needs
    ATTNBENCH_DATA.
    """
    if isolation == "bwrap" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    backbone, episode, data = an_episode_of(track)
    submission = load_submission("attention")
    added, shares = [], []

    def judge() -> None:
        started = time.perf_counter()
        result, _ = evaluator.judge(submission, episode, 300.0, cold=False)
        total = time.perf_counter() - started
        assert result.cost is not None, result.reason
        added.append(total - result.cost.adaptation_seconds - result.cost.prediction_seconds)
        shares.append(added[-1] / total)

    with Template(isolation, data=data) as template:
        evaluator = Evaluator(backbone, template, device="cpu", untrained=False)
        benchmark.pedantic(judge, rounds=15 if track == "mini" else 3, warmup_rounds=1)
    benchmark.extra_info["added_seconds"] = statistics.median(added)
    benchmark.extra_info["added_share"] = statistics.median(shares)
    print(
        f"{track}, {isolation}: {statistics.median(added):.3f} s, {statistics.median(shares):.1%}"
    )


def some_batches(episode: Episode) -> list[NDArray[np.int64]]:
    """All test images of `mini` in batches, of `small` as many as take some seconds."""
    return list(episode.batches(np.arange(len(episode.present))))[:100]


def loop_bare(track: str) -> float:
    """Seconds of the network alone over `some_batches`, behind one that does not count."""
    backbone, episode, _ = an_episode_of(track)
    images = [torch.from_numpy(episode.make(rows)) for rows in some_batches(episode)]
    with torch.no_grad():
        backbone(channels_last(images[0]))
        started = time.perf_counter()
        for batch in images:
            backbone(channels_last(batch))
    return time.perf_counter() - started


def loop_bare_in_a_process(track: str) -> float:
    """The same in a process of its own, which keeps memory as workers do.

    A new one each time, as a worker is: how quick a process is differs by a tenth from one to the next.
    """
    context = multiprocessing.get_context("spawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLIBC_TUNABLES", MALLOC)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(loop_bare, track).result()


@pytest.mark.parametrize("track", ["mini", "small"])
def test_prediction_beside_a_bare_loop(benchmark: BenchmarkFixture, track: str) -> None:
    """The rate at which a worker is shown images and answers, over that of the network alone.

    `none` in its process against the same network on the same batches in another, in turn.
    `rate_over_bare_loop` in `extra_info` is the median of the ratios, with its interval; 1 would be no
    loss at all. `small` needs ATTNBENCH_DATA.
    """
    backbone, episode, data = an_episode_of(track)
    submission, batches = load_submission("none"), some_batches(episode)
    ratios, loops = [], []
    with Template(data=data) as template:
        template.load(backbone.name, untrained=False)
        labels = len(backbone.labels or ())
        jobs = Jobs(template, backbone=backbone.name, labels=labels, size=0, device="cpu")
        artefact = jobs.adapt(submission, episode, 300.0, warm_up=False).artefact

        def both() -> None:
            predicted = jobs.predict(
                submission, episode, artefact, batches, timeout=300.0, budget=300.0
            )
            template.settle()
            loops.append(loop_bare_in_a_process(track))
            ratios.append(loops[-1] / sum(predicted.seconds))

        benchmark.pedantic(both, rounds=20, warmup_rounds=1)
    rate, low, high = median_interval(ratios)
    benchmark.extra_info["rate_over_bare_loop"] = rate
    benchmark.extra_info["rate_interval"] = [low, high]
    print(
        f"{track}: prediction runs at {rate:.0%} [{low:.0%}, {high:.0%}] of a bare loop's rate, "
        f"which takes {statistics.median(loops):.3f} s"
    )


@pytest.mark.parametrize("name", ["endless", "endless_loading"])
def test_a_failure_beyond_its_timeout(
    benchmark: BenchmarkFixture, template: Template, tmp_path: Path, name: str
) -> None:
    """Seconds from the timeout of a submission that never ends to its failure, in `extra_info`.

    Loading has prediction's budget, 5 seconds and 20 forwards, behind an adaptation that went well.
    """
    backbone = load("shipped/digits-cnn")
    track = load_task("noisy-mnist").tracks["mini"]
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, None)
    evaluator = Evaluator(backbone, template, device="cpu", untrained=False)
    submission, episode = (
        load_submission(write(f"faults/{name}", tmp_path)),
        stimuli.episode("3", 0),
    )
    beyond = []

    def judge() -> None:
        started = time.perf_counter()
        result, _ = evaluator.judge(submission, episode, 1.0, cold=False)
        beyond.append(time.perf_counter() - started - 1.0)
        assert "timeout" in result.reason

    benchmark.pedantic(judge, rounds=3)
    benchmark.extra_info["seconds_beyond_timeout"] = max(beyond)
    print(f"{name}: {max(beyond):.2f} s beyond its timeout at the most")


@pytest.mark.parametrize("name", ["none", "attention"])
def test_one_episode(benchmark: BenchmarkFixture, template: Template, name: str) -> None:
    """`none` is the harness alone: three processes, a pass, 450 test images."""
    backbone = load("shipped/digits-cnn")
    track = load_task("noisy-mnist").tracks["mini"]
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, None)
    evaluator = Evaluator(backbone, template, device="cpu", untrained=False)
    submission, episode = load_submission(name), stimuli.episode("3", 0)
    benchmark(evaluator.judge, submission, episode, 60.0, cold=False)


def test_a_worker_starts(benchmark: BenchmarkFixture, template: Template) -> None:
    template.load("shipped/digits-cnn", untrained=True)

    def start() -> None:
        with template.worker():
            pass
        template.settle()

    benchmark(start)


def test_drawing_64_figures(benchmark: BenchmarkFixture) -> None:
    benchmark(figures.draw, "adapt", 7, np.arange(64))


def test_the_interval_of_200_targets(benchmark: BenchmarkFixture) -> None:
    benchmark(d_prime_interval, [[Counts(40, 50, 100, 2000)]] * 200)
