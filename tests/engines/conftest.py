"""Fixtures for the tests of engines: a run on the plain engine, and a comparison with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import attnbench
from attnbench.engines.engine import Job, JobEpisode
from attnbench.records.record import Record
from attnbench.records.scores import read_scores
from attnbench.records.store import RecordStore
from attnbench.tasks import load_task
from tests.conftest import SMALL_TASKS

SUBMISSIONS = ["bias_only", "attention"]
# Two tasks that share their adaptations.
TASKS = [str(SMALL_TASKS / f"{name}-digits.toml") for name in ("clear", "noisy")]
TARGETS = 3
EPISODES = len(SUBMISSIONS) * len(TASKS) * TARGETS


@pytest.fixture(scope="session")
def sequential_records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of a run of one episode after the other."""
    folder = tmp_path_factory.mktemp("sequential")
    frame = attnbench.evaluate(SUBMISSIONS, tasks=TASKS, records=folder)
    assert frame["status"].tolist() == ["ok"] * 4
    return folder


@pytest.fixture
def job(make_record: Callable[..., Record]) -> Job:
    """A job that can be passed around, but not run: it has no submission."""
    return Job(
        episodes=(JobEpisode(make_record().identity, load_task("noisy-mnist").tracks["mini"]),),
        submission=None,  # type: ignore[arg-type]
        backbone="shipped/digits-cnn",
        target="cat",
        seed=0,
        timeout=1.0,
        cold=False,
    )


@pytest.fixture
def assert_same(sequential_records: Path) -> Callable[[Path], None]:
    """A function that asserts that records equal those of the sequential run, except for times.

    Scores must be equal to the bit. Nothing but the records may be left in the folder.
    """

    def check(folder: Path) -> None:
        expected = RecordStore(sequential_records).load_all()[0]
        records = RecordStore(folder).load_all()[0]
        assert len(records) == len(expected) == len(SUBMISSIONS) * len(TASKS)
        for (path, record), (expected_path, expected_record) in zip(records, expected, strict=True):
            assert record.identity == expected_record.identity
            assert read_scores(path, record).equals(read_scores(expected_path, expected_record))
            episodes = zip(record.episodes, expected_record.episodes, strict=True)
            for episode, expected_episode in episodes:
                assert episode.measures == expected_episode.measures
                assert episode.images_sha256 == expected_episode.images_sha256
        by_name = {(r.identity.task, r.identity.submission): r for _, r in records}
        for submission in SUBMISSIONS:
            clear, noisy = (
                [episode.artefact_sha256 for episode in by_name[task, submission].episodes]
                for task in ("clear-digits", "noisy-digits")
            )
            assert clear == noisy
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]

    return check
