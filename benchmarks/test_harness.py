"""What the harness itself costs, beside what it measures: `tox -e benchmarks`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from attnbench.backbones import load
from attnbench.evaluation.evaluator import Evaluator
from attnbench.evaluation.warm import Template
from attnbench.statistics.detection import Counts
from attnbench.statistics.intervals import d_prime_interval
from attnbench.stimuli import figures
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.submission import load_submission
from attnbench.tasks import load_task


@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "--help"]], ids=" ".join)
def test_help(benchmark: BenchmarkFixture, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "attnbench", *arguments]
    benchmark(subprocess.run, command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    with Template() as template:
        yield template


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
