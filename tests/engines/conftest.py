"""Shared by the engines' tests: a run on the plain engine, and what it has to agree with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import attnbench
from attnbench.records.store import RecordStore

SUBMISSIONS = ["bias_only", "attention"]
TASK = "imagenet-standard"


@pytest.fixture(scope="session")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of a run of one episode after the other."""
    folder = tmp_path_factory.mktemp("one-by-one")
    frame = attnbench.evaluate(SUBMISSIONS, tasks=[TASK], records=folder)
    assert frame["status"].tolist() == ["ok", "ok"]
    return folder


@pytest.fixture
def assert_same(one_by_one: Path) -> Callable[[Path], None]:
    """Asserts that records hold the scores of that run, image by image, and its untimed figures."""

    def check(folder: Path) -> None:
        expected = RecordStore(one_by_one).load_all()[0]
        found = RecordStore(folder).load_all()[0]
        assert len(found) == len(expected) == len(SUBMISSIONS)
        for (path, record), (other_path, other) in zip(found, expected, strict=True):
            assert record.identity == other.identity
            pd.testing.assert_frame_equal(
                pd.read_parquet(path.with_suffix(".parquet")),
                pd.read_parquet(other_path.with_suffix(".parquet")),
                check_exact=True,
            )
            for episode, same in zip(record.episodes, other.episodes, strict=True):
                assert episode.measures == same.measures
                assert episode.images_sha256 == same.images_sha256
        left = [path for path in folder.iterdir() if path.name.startswith(".")]
        assert not left

    return check
