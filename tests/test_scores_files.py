"""The files of scores: small, shared where images are, and readable in their earlier form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attnbench.records.outcome import scores_table
from attnbench.records.record import Record
from attnbench.records.scores import read_scores
from attnbench.records.store import RecordStore

MakeRecord = Callable[..., Record]
SCORES = scores_table("cat", ["1", "2"], np.array([True, False]), np.array([1.5, -0.25]))


def test_records_of_the_same_images_share_their_list(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    store = RecordStore(tmp_path)
    one, other = (
        store.save(
            make_record(submission=name),
            SCORES.set_column(3, "score", pa.array(scores, pa.float32())),
        )
        for name, scores in (("one", [1.0, 2.0]), ("other", [3.0, 4.0]))
    )
    assert len(list(one.parent.glob("images-*.parquet"))) == 1
    assert read_scores(other, store.read(other))["score"].to_pylist() == [3.0, 4.0]
    # Removing one leaves the list to the other.
    store.remove(one)
    assert read_scores(other, store.read(other))["image"].to_pylist() == ["1", "2"]
    store.remove(other)
    assert not list(tmp_path.rglob("*.parquet")) and not list(tmp_path.rglob("*.json"))


def test_a_score_takes_four_bytes_or_less(tmp_path: Path, make_record: MakeRecord) -> None:
    images = [f"images/{number:06}.png" for number in range(10_000)]
    present = np.arange(10_000) % 4 == 0
    scores = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    path = RecordStore(tmp_path).save(make_record(), scores_table("cat", images, present, scores))
    assert path.with_suffix(".parquet").stat().st_size < 4 * 10_000 + 500


def test_a_record_with_all_columns_in_one_file_is_read(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    """Records were written so before the list of images had a file of its own."""
    record = make_record()
    path = RecordStore(tmp_path).path_of(record.identity)
    path.parent.mkdir(parents=True)
    pq.write_table(SCORES, path.with_suffix(".parquet"))
    digest = hashlib.sha256(path.with_suffix(".parquet").read_bytes()).hexdigest()
    content = json.loads(record.model_dump_json()) | {"scores_sha256": digest}
    del content["test_images_sha256"]
    path.write_text(json.dumps(content))
    found = RecordStore(tmp_path).find(record.identity)
    assert found is not None and read_scores(*found).equals(SCORES)


def test_a_damaged_list_of_images_makes_the_record_incomplete(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    store = RecordStore(tmp_path)
    record = make_record()
    path = store.save(record, SCORES)
    (images,) = path.parent.glob("images-*.parquet")
    content = images.read_bytes()
    for damaged in (content[:-20], b"", None):
        images.unlink() if damaged is None else images.write_bytes(damaged)
        assert store.find(record.identity) is None
        with pytest.raises(ValueError, match="list of test images"):
            read_scores(path, store.read(path))
    store.save(record, SCORES)  # writes the list again
    assert store.find(record.identity) is not None


def test_a_record_is_removed_whole_beside_one_that_cannot_be_read(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    store = RecordStore(tmp_path)
    removed = store.save(make_record(submission="one"), SCORES)
    damaged = store.save(make_record(submission="other"), SCORES)
    damaged.write_text("{")
    store.remove(removed)
    # The damaged record may need the list of images, but not the scores of another one.
    assert not list(tmp_path.rglob("one@*"))
    assert len(list(tmp_path.rglob("images-*.parquet"))) == 1
