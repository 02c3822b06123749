"""Records: written whole, read back the same, and named where they are damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from attnbench.errors import AttnbenchError
from attnbench.records.record import Record
from attnbench.records.rows import COLUMNS, row_of
from attnbench.records.store import EpisodeOutcome, RecordStore, write_atomically

MakeRecord = Callable[..., Record]
SCORES = pd.DataFrame({"target": ["cat", "cat"], "present": [True, False], "score": [1.5, -0.25]})
TABLE = pa.Table.from_pandas(SCORES, preserve_index=False)


def test_a_record_reads_back_as_it_was_saved(tmp_path: Path, make_record: MakeRecord) -> None:
    store = RecordStore(tmp_path)
    record = make_record()
    path = store.save(record, SCORES)
    found = store.find(record.identity)
    assert found is not None and found[0] == path
    assert found[1].model_copy(update={"scores_file": "", "scores_sha256": "0" * 64}) == record
    pd.testing.assert_frame_equal(pd.read_parquet(path.parent / found[1].scores_file), SCORES)


@pytest.mark.parametrize(
    "changed",
    [
        {"submission_sha256": "d" * 64},
        {"task_sha256": "d" * 64},
        {"backbone_sha256": "d" * 64},
        {"seed": 1},
        {"untrained": True},
        {"device": "cuda"},
    ],
)
def test_what_measured_something_else_is_not_found(
    tmp_path: Path, make_record: MakeRecord, changed: dict[str, object]
) -> None:
    store = RecordStore(tmp_path)
    store.save(make_record(), SCORES)
    assert store.find(make_record(**changed).identity) is None


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_a_truncated_file_is_as_if_it_had_not_been_measured(
    tmp_path: Path, make_record: MakeRecord, suffix: str
) -> None:
    store = RecordStore(tmp_path)
    record = make_record()
    path = store.save(record, SCORES).with_suffix(suffix)
    path.write_bytes(path.read_bytes()[:-20])
    assert store.find(record.identity) is None


def test_damaged_and_newer_records_are_named_and_left_out(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    store = RecordStore(tmp_path)
    good = store.save(make_record(seed=0), SCORES)
    truncated = store.save(make_record(seed=1), SCORES)
    truncated.write_bytes(truncated.read_bytes()[:100])
    newer = store.save(make_record(seed=2), SCORES)
    newer.write_text(json.dumps(json.loads(newer.read_text()) | {"schema_version": 99}))
    surplus = store.save(make_record(seed=3), SCORES)
    surplus.write_text(json.dumps(json.loads(surplus.read_text()) | {"bonus": 5}))
    records, problems = store.load_all()
    assert [path for path, _ in records] == [good]
    for path, saying in ((truncated, "not a whole record"), (newer, "99"), (surplus, "bonus")):
        assert any(str(path) in problem and saying in problem for problem in problems)
    assert "upgrade attnbench" in next(each for each in problems if str(newer) in each)


def test_a_record_outside_the_folder_is_not_followed(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    elsewhere = RecordStore(tmp_path / "elsewhere").save(make_record(), SCORES)
    folder = tmp_path / "records" / "mini" / "noisy-mnist"
    folder.mkdir(parents=True)
    (folder / "borrowed.json").symlink_to(elsewhere)
    records, problems = RecordStore(tmp_path / "records").load_all()
    assert not records and "a link out of the records folder" in problems[0]


def test_an_unfinished_run_keeps_its_finished_episodes(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    store = RecordStore(tmp_path)
    record = make_record()
    partial = store.partial(record.identity)
    cat, dog = record.episodes
    for result in (cat, dog):
        partial.add(EpisodeOutcome(result, TABLE, record.environment))
    measured = store.partial(record.identity).finished()["dog"]
    assert measured.result == dog and measured.environment == record.environment
    pd.testing.assert_frame_equal(measured.scores.to_pandas(), SCORES)
    (file,) = partial.folder.iterdir()
    whole = file.read_bytes()
    start_of_last = whole.rindex(b"\n")
    for end in range(start_of_last, len(whole), 97):  # killed while it wrote the second
        file.write_bytes(whole[:end])
        assert store.partial(record.identity).finished().keys() == {"cat"}
    partial.add(EpisodeOutcome(dog, TABLE, record.environment))
    assert store.partial(record.identity).finished().keys() == {"cat", "dog"}
    assert not store.partial(make_record(seed=7).identity).finished()
    partial.discard()
    assert not partial.folder.exists()


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AttnbenchError, match=r"cannot write .*run the same command again"):
        write_atomically(tmp_path / "file" / "record.json", b"{}", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_row_has_the_columns_of_the_design(make_record: MakeRecord) -> None:
    design = (
        "submission task track backbone seed device status reason targets d_prime d_prime_low "
        "d_prime_high criterion d_a auc hit_rate false_alarm_rate parameters_added "
        "parameters_changed artefact_bytes adaptation_seconds adaptation_seconds_cold "
        "adaptation_passes prediction_seconds isolation record"
    )
    assert list(COLUMNS) == design.split()
    row = row_of(make_record(), Path("records/x.json"))
    assert tuple(row) == COLUMNS
    assert row["adaptation_passes"] == pytest.approx(5.0)
    failed = row_of(make_record(reason="no luck"), Path("x.json"))
    assert failed["status"] == "failed" and failed["d_prime"] is None
