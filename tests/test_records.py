"""Records: written completely or not at all, read back unchanged, and skipped if damaged."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from attnbench.errors import AttnbenchError
from attnbench.files import write_atomically
from attnbench.records.outcome import SCORES_SCHEMA, EpisodeOutcome, scores_table
from attnbench.records.record import Record
from attnbench.records.rows import COLUMNS, row_of
from attnbench.records.scores import read_scores
from attnbench.records.store import RecordStore

MakeRecord = Callable[..., Record]
SCORES = scores_table("cat", ["1", "2"], np.array([True, False]), np.array([1.5, -0.25]))


def test_record_reads_back_as_saved(tmp_path: Path, make_record: MakeRecord) -> None:
    store = RecordStore(tmp_path)
    record = make_record()
    path = store.save(record, SCORES)
    stored = store.find(record.identity)
    assert stored is not None and stored[0] == path
    unsaved = {"scores_file": "", "scores_sha256": "0" * 64, "test_images_sha256": None}
    assert stored[1].model_copy(update=unsaved) == record
    assert read_scores(path, stored[1]).equals(SCORES)


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
def test_record_of_another_identity_is_not_found(
    tmp_path: Path, make_record: MakeRecord, changed: dict[str, object]
) -> None:
    store = RecordStore(tmp_path)
    store.save(make_record(), SCORES)
    assert store.find(make_record(**changed).identity) is None


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_record_with_a_truncated_file_is_not_found(
    tmp_path: Path, make_record: MakeRecord, suffix: str
) -> None:
    store = RecordStore(tmp_path)
    record = make_record()
    path = store.save(record, SCORES).with_suffix(suffix)
    path.write_bytes(path.read_bytes()[:-20])
    assert store.find(record.identity) is None


def test_damaged_and_newer_records_are_reported_and_skipped(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    store = RecordStore(tmp_path)
    intact = store.save(make_record(seed=0), SCORES)
    truncated = store.save(make_record(seed=1), SCORES)
    truncated.write_bytes(truncated.read_bytes()[:100])
    newer = store.save(make_record(seed=2), SCORES)
    newer.write_text(json.dumps(json.loads(newer.read_text()) | {"schema_version": 99}))
    with_extra_key = store.save(make_record(seed=3), SCORES)
    content = json.loads(with_extra_key.read_text())
    with_extra_key.write_text(json.dumps(content | {"bonus": 5}))
    records, problems = store.load_all()
    assert [path for path, _ in records] == [intact]
    for path, text in (
        (truncated, "not a complete record"),
        (newer, "99"),
        (with_extra_key, "bonus"),
    ):
        assert any(str(path) in problem and text in problem for problem in problems)
    assert "upgrade attnbench" in next(problem for problem in problems if str(newer) in problem)


def test_links_out_of_the_records_folder_are_not_followed(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    elsewhere = RecordStore(tmp_path / "elsewhere").save(make_record(), SCORES)
    folder = tmp_path / "records" / "mini" / "noisy-mnist"
    folder.mkdir(parents=True)
    (folder / "borrowed.json").symlink_to(elsewhere)
    records, problems = RecordStore(tmp_path / "records").load_all()
    assert not records and "a link out of the records folder" in problems[0]


def test_finished_episodes_of_an_unfinished_run_are_kept(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    store = RecordStore(tmp_path)
    record = make_record()
    partial = store.partial(record.identity)
    cat, dog = record.episodes
    partial.add(EpisodeOutcome(cat, SCORES.slice(0, 0), record.environment))
    partial.add(EpisodeOutcome(dog, SCORES, record.environment))
    finished = store.partial(record.identity).finished()
    assert finished.keys() == {"cat", "dog"}
    outcome = finished["dog"]
    assert outcome.result == dog and outcome.environment == record.environment
    assert outcome.scores.equals(SCORES) and outcome.scores.schema == SCORES_SCHEMA
    assert finished["cat"].scores.num_rows == 0 and finished["cat"].scores.schema == SCORES_SCHEMA
    assert not store.partial(make_record(seed=7).identity).finished()
    partial.discard()
    assert not partial.folder.exists()


def test_truncated_episode_file_counts_as_not_run(tmp_path: Path, make_record: MakeRecord) -> None:
    store = RecordStore(tmp_path)
    record = make_record()
    partial = store.partial(record.identity)
    cat, dog = record.episodes
    partial.add(EpisodeOutcome(cat, SCORES, record.environment))
    (file_of_cat,) = partial.folder.glob("*.arrow")
    partial.add(EpisodeOutcome(dog, SCORES, record.environment))
    (file_of_dog,) = set(partial.folder.glob("*.arrow")) - {file_of_cat}
    complete = file_of_dog.read_bytes()
    lengths = [*range(0, len(complete), 97), *range(len(complete) - 20, len(complete))]
    for length in lengths:
        file_of_dog.write_bytes(complete[:length])
        assert store.partial(record.identity).finished().keys() == {"cat"}, length
    # Not an Arrow file at all, or one of something else.
    file_of_dog.write_bytes(b"{}")
    assert store.partial(record.identity).finished().keys() == {"cat"}
    with pa.ipc.new_file(str(file_of_dog), SCORES_SCHEMA) as file:
        file.write_table(SCORES)
    assert store.partial(record.identity).finished().keys() == {"cat"}
    partial.add(EpisodeOutcome(dog, SCORES, record.environment))
    assert store.partial(record.identity).finished().keys() == {"cat", "dog"}


def test_episode_that_runs_again_replaces_its_file(tmp_path: Path, make_record: MakeRecord) -> None:
    record = make_record()
    partial = RecordStore(tmp_path).partial(record.identity)
    cat, _ = record.episodes
    partial.add(EpisodeOutcome(cat, SCORES.slice(0, 0), record.environment))
    partial.add(EpisodeOutcome(cat, SCORES, record.environment))
    assert len(list(partial.folder.iterdir())) == 1
    assert partial.finished()["cat"].scores.equals(SCORES)


def test_error_for_an_unwritable_folder_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AttnbenchError, match=r"cannot write .*run the same command again"):
        write_atomically(tmp_path / "file" / "record.json", b"{}", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_record_with_the_earlier_count_of_numbers_outside_tensors_is_read(
    make_record: MakeRecord,
) -> None:
    values = make_record().model_dump(mode="json")
    for part in (values["summary"], *(episode["cost"] for episode in values["episodes"])):
        part["other_numbers"] = None
    expected = Record.model_validate(values)
    for episode in values["episodes"]:
        del episode["cost"]["other_numbers"]
        episode["cost"]["parameters_opaque"] = 7
    del values["summary"]["other_numbers"]
    assert Record.model_validate(values) == expected


def test_row_has_the_documented_columns(make_record: MakeRecord) -> None:
    documented = (
        "submission task track backbone seed device status reason targets d_prime d_prime_low "
        "d_prime_high d_prime_pooled criterion d_a auc hit_rate false_alarm_rate parameters_added "
        "parameters_changed other_numbers artefact_bytes peak_memory_bytes adaptation_seconds "
        "adaptation_seconds_cold adaptation_passes prediction_seconds precision isolation record"
    )
    assert list(COLUMNS) == documented.split()
    row = row_of(make_record(), Path("records/x.json"))
    assert tuple(row) == COLUMNS
    assert row["adaptation_passes"] == pytest.approx(5.0)
    failed = row_of(make_record(reason="no luck"), Path("x.json"))
    assert failed["status"] == "failed" and failed["d_prime"] is None


# A process that says when it is ready, waits for a line on its standard input, and then runs `body`
# with the store and the record to make.
_PROCESS = """
import sys
import time
from pathlib import Path

from attnbench.records.outcome import SCORES_SCHEMA
from attnbench.records.record import Record
from attnbench.records.store import RecordStore

folder = Path(sys.argv[1])
store = RecordStore(folder / "records")
record = Record.model_validate_json((folder / "record.json").read_bytes())
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def processes(tmp_path: Path, make_record: MakeRecord) -> Callable[[int, str], list[str]]:
    """Runs the same code in several processes at a time, and returns what each of them printed."""
    (tmp_path / "record.json").write_text(make_record().model_dump_json())

    def run(count: int, body: str) -> list[str]:
        started = [start_process(tmp_path, body) for _ in range(count)]
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outputs = [process.communicate(timeout=120)[0] for process in started]
        assert [process.returncode for process in started] == [0] * count
        return outputs

    return run


def start_process(folder: Path, body: str) -> subprocess.Popen[str]:
    """Start a process and wait until it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROCESS + textwrap.dedent(body), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_one_process_makes_a_record_and_others_wait_and_use_it(
    tmp_path: Path, make_record: MakeRecord, processes: Callable[[int, str], list[str]]
) -> None:
    outputs = processes(
        4,
        """
        with store.claim(record.identity) as is_ours:
            assert is_ours
            if store.find(record.identity) is None:
                time.sleep(0.5)
                store.save(record, SCORES_SCHEMA.empty_table())
                print("made")
            else:
                print("used")
        """,
    )
    assert sorted(outputs) == ["made\n", "used\n", "used\n", "used\n"]
    assert RecordStore(tmp_path / "records").find(make_record().identity) is not None
    # The lock file is gone, and the folder of unfinished runs with it.
    names = {path.name for path in (tmp_path / "records").iterdir()}
    assert names == {"mini"}


def test_claims_of_several_processes_never_overlap(
    tmp_path: Path, processes: Callable[[int, str], list[str]]
) -> None:
    """Each claim removes its lock file, which a waiting process may have open already."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    processes(
        4,
        """
        counter = folder / "counter"
        for _ in range(50):
            with store.claim(record.identity):
                count = int(counter.read_text())
                time.sleep(0.001)
                counter.write_text(str(count + 1))
        """,
    )
    assert counter.read_text() == "200"
    assert not (tmp_path / "records" / ".partial").exists()


def test_claim_that_must_not_wait_is_refused_while_another_holds_it(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    store = RecordStore(tmp_path)
    identity = make_record().identity
    with store.claim(identity) as is_ours:
        assert is_ours
        with store.claim(identity, wait=False) as is_ours_too:
            assert not is_ours_too
        with store.claim(identity, wait=False) as is_ours_too:  # the first refusal released nothing
            assert not is_ours_too
        with store.claim(make_record(seed=1).identity, wait=False) as is_ours_too:
            assert is_ours_too
    with store.claim(identity, wait=False) as is_ours:
        assert is_ours
    assert not list(tmp_path.iterdir())


def test_claim_of_a_killed_process_is_free(tmp_path: Path, make_record: MakeRecord) -> None:
    record = make_record()
    (tmp_path / "record.json").write_text(record.model_dump_json())
    process = start_process(
        tmp_path,
        """
        with store.claim(record.identity) as is_ours:
            print(is_ours, flush=True)
            time.sleep(600)
        """,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "True\n"
    store = RecordStore(tmp_path / "records")
    with store.claim(record.identity, wait=False) as is_ours:
        assert not is_ours
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with store.claim(record.identity, wait=False) as is_ours:
        assert is_ours
    assert not (tmp_path / "records" / ".partial").exists()


def test_claim_in_an_unwritable_folder_is_an_error(tmp_path: Path, make_record: MakeRecord) -> None:
    (tmp_path / "records").write_text("in the way")
    with (
        pytest.raises(AttnbenchError, match="cannot write"),
        RecordStore(tmp_path / "records").claim(make_record().identity),
    ):
        pass


def test_claim_in_a_folder_that_leads_nowhere_is_an_error(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    """Such as a link to a disk that is not mounted."""
    (tmp_path / "records").symlink_to(tmp_path / "disk" / "records")
    with (
        pytest.raises(AttnbenchError, match=r"cannot write .*--records"),
        RecordStore(tmp_path / "records").claim(make_record().identity),
    ):
        pass
