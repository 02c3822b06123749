"""Fixtures shared by all tests: a small backbone, submissions written to a folder, records."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.judge import template
from attnbench.judge.background_load import BackgroundLoad
from attnbench.records.record import Cost, EpisodeResult, Measures, Record
from attnbench.records.summary import summarise
from attnbench.vocabulary import Status
from tests.fork_servers import ForkServers

# Examples have no deadline, because other work on the machine can slow any of them down.
# `pytest --hypothesis-profile fuzz tests/test_untrusted_text.py` searches for minutes.
hypothesis.settings.register_profile("fuzz", max_examples=5_000, deadline=None)
hypothesis.settings.register_profile("no-deadline", deadline=None)
hypothesis.settings.load_profile("no-deadline")

# Small tasks, for tests of what does not depend on their size.
SMALL_TASKS = Path(__file__).parent / "tasks"

MANIFEST = """
name = "{name}"
title = "{name}"
authors = ["A. Tester"]
licence = "MIT"
paper = "none"
description = "Written by a test."
"""


def small_backbone(labels: tuple[str, ...] | None = ("a", "b", "c")) -> Backbone:
    """A backbone of three stages with deterministic weights, for images of 16 x 16 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stages = {
            "block1": nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            "block2": nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
            "head": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3)),
        }
    half = (0.5, 0.5, 0.5)
    return Backbone(
        stages,
        name="test/small",
        labels=labels,
        preprocessing=Preprocessing(size=16, resize=16, mean=half, std=half),
    )


def rows_of(indices: Iterable[int]) -> NDArray[np.int64]:
    """The int64 array of test image indices that `Episode.make` takes."""
    return np.fromiter(indices, dtype=np.int64)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of cached arrays, for this test only."""
    monkeypatch.setenv("ATTNBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def idle_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """See no other work on this machine, on which tests run in parallel.

    The marker `real_load` leaves the measurement of other work in place.
    """
    if request.node.get_closest_marker("real_load") is None:
        monkeypatch.setattr(BackgroundLoad, "is_contended", lambda _: False)


@pytest.fixture(scope="session")
def fork_servers() -> Iterator[ForkServers]:
    """The process that the fork servers of `quick_fork_servers` are forks of."""
    servers = ForkServers(template._environment("process"))
    yield servers
    servers.close()


@pytest.fixture(scope="module")
def quick_fork_servers(fork_servers: ForkServers) -> Iterator[ForkServers]:
    """Start the fork servers of this module quickly, for tests of what comes after that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(template, "subprocess", fork_servers)
        yield fork_servers


@pytest.fixture
def backbone() -> Backbone:
    """A fresh small backbone, which the test may change."""
    return small_backbone()


@pytest.fixture
def submission_folder(tmp_path: Path) -> Callable[[str, str], Path]:
    """A function that writes a submission, given its name and the text of its submission.py."""

    def write(name: str, code: str) -> Path:
        folder = tmp_path / "submissions" / name
        folder.mkdir(parents=True)
        (folder / "submission.toml").write_text(MANIFEST.format(name=name), encoding="utf-8")
        (folder / "submission.py").write_text(textwrap.dedent(code), encoding="utf-8")
        return folder

    return write


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """A function that makes a record of two episodes.

    Keyword arguments that name a field of the identity, the environment or the record replace it.
    """

    def make(
        *,
        d_prime: float = 1.5,
        d_a: float = 1.8,
        seconds: float = 0.5,
        reason: str = "",
        contended: bool = False,
        **changes: object,
    ) -> Record:
        measures = Measures(
            hits=40,
            positives=50,
            false_alarms=45,
            negatives=450,
            hit_rate=0.8,
            false_alarm_rate=0.1,
            d_prime=d_prime,
            criterion=0.2,
            auc=0.9,
            d_a=d_a,
        )
        cost = Cost(
            parameters_added=96,
            parameters_changed=0,
            other_numbers=35,
            artefact_bytes=800,
            adaptation_seconds=seconds,
            adaptation_seconds_cold=0.6,
            pass_seconds=0.1,
            prediction_seconds=0.3,
            contended=contended,
        )
        status: Status = "failed" if reason else "ok"
        episodes = [
            EpisodeResult(
                target=target,
                status=status,
                reason=reason,
                images_sha256="1" * 64,
                measures=None if reason else measures,
                cost=None if reason else cost,
            )
            for target in ("cat", "dog")
        ]
        identity: dict[str, object] = {
            "submission": "made-up",
            "submission_sha256": "a" * 64,
            "task": "noisy-mnist",
            "task_version": 1,
            "task_sha256": "b" * 64,
            "track": "mini",
            "backbone": "shipped/digits-cnn",
            "backbone_sha256": "c" * 64,
            "untrained": False,
            "seed": 0,
            "device": "cpu",
            "isolation": "process",
        }
        versions = dict.fromkeys(("python", "torch", "torchvision", "numpy", "attnbench"), "1.0")
        environment = {"device_name": "a processor", "threads": 2, **versions}
        identity |= {key: value for key, value in changes.items() if key in identity}
        environment |= {key: value for key, value in changes.items() if key in environment}
        record_fields = changes.keys() - identity.keys() - environment.keys()
        record: dict[str, object] = {
            "identity": identity,
            "title": "Made up",
            "environment": environment,
            "created": "2026-01-01T00:00:00+00:00",
            "status": status,
            "reason": reason,
            "summary": summarise(episodes),
            "episodes": episodes,
            "scores_file": "",
            "scores_sha256": "0" * 64,
        }
        return Record.model_validate(record | {key: changes[key] for key in record_fields})

    return make
