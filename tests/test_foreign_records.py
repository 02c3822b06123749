"""Records from somebody else: forged, in another's place, with links, pipes and bombs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attnbench.commands.leaderboard import build_leaderboard
from attnbench.errors import AttnbenchError
from attnbench.leaderboard.exports import export_files, write_files
from attnbench.leaderboard.markdown import markdown_of
from attnbench.leaderboard.standings import standings_of
from attnbench.overrides import Overrides
from attnbench.records.outcome import scores_table
from attnbench.records.record import Record
from attnbench.records.scores import images_file, read_scores, scores_file, sha256_of
from attnbench.records.store import RecordStore
from attnbench.records.verification import badge_of, path_beside

MakeRecord = Callable[..., Record]
SCORES = scores_table("cat", ["1", "2"], np.array([True, False]), np.array([1.5, -0.25]))


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path / "published")


@pytest.fixture
def path(store: RecordStore, make_record: MakeRecord) -> Path:
    """The file of a record."""
    return store.save(make_record(), SCORES)


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """End a test that waits for ten seconds, such as for a pipe that nobody writes to."""

    def end(*_: object) -> None:
        raise RuntimeError("it waits")  # no OSError: the code under test handles those

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def make_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def make_device(path: Path) -> None:
    """Make a link to a device. A real attack names one without an end, such as /dev/zero."""
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/null")


def test_a_record_cannot_stand_in_for_that_of_somebody_else(store: RecordStore, path: Path) -> None:
    """Of records with the same identity, the leaderboard takes the first."""
    forged = path.with_name("0.json")
    forged.write_bytes(path.read_bytes().replace(b'"title": "', b'"title": "Forged '))
    scores_file(forged).write_bytes(scores_file(path).read_bytes())
    records, problems = store.load_all()
    assert [file for file, _ in records] == [path]
    assert problems == [f"{forged}: this record belongs in {path}; rename the file"]


def test_a_record_cannot_claim_the_overrides_of_another_name(
    store: RecordStore, path: Path, make_record: MakeRecord
) -> None:
    overrides = Overrides(submission="mine", hyperparameters={"steps": "4"})
    content = json.loads(make_record(submission=overrides.name).model_dump_json())
    content["overrides"] = overrides.model_dump()
    assert Record.model_validate(content).overrides == overrides
    content["overrides"]["hyperparameters"]["steps"] = "5"
    path.write_text(json.dumps(content))
    with pytest.raises(AttnbenchError, match="its overrides make the submission mine-steps-5"):
        store.read(path)


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("replace", [make_pipe, make_device])
def test_pipes_and_devices_in_place_of_files_are_not_read(
    store: RecordStore, path: Path, replace: Callable[[Path], None]
) -> None:
    record = store.read(path)
    replace(path_beside(path))
    assert badge_of(path, []) == "self-reported"
    with pytest.raises(AttnbenchError, match=r"cannot copy .* \((not a regular file|Too many)"):
        RecordStore(path.parent / "copies").copy(path, record)
    path_beside(path).unlink()
    replace(scores_file(path))
    with pytest.raises(ValueError, match="not a regular file"):
        read_scores(path, record)
    assert store.find(record.identity) is None
    replace(path)
    with pytest.raises(AttnbenchError, match="not a regular file"):
        store.read(path)


def test_a_link_to_a_private_file_is_not_published(
    store: RecordStore, path: Path, tmp_path: Path
) -> None:
    private = tmp_path / "private"
    private.write_text("secret")
    path_beside(path).symlink_to(private)
    copies = RecordStore(tmp_path / "copies")
    with pytest.raises(AttnbenchError, match=r"cannot copy .*\.json\.verification \("):
        copies.copy(path, store.read(path))
    assert not list(copies.paths())


def test_nothing_is_written_through_a_link(store: RecordStore, path: Path, tmp_path: Path) -> None:
    """A pull request could make `leaderboard.md` a link to a file in the reader's home."""
    private = tmp_path / "private"
    private.write_text("as before")
    page = tmp_path / "leaderboard.md"
    page.symlink_to(private)
    with pytest.raises(AttnbenchError, match=r"leaderboard\.md cannot be written: it is a link"):
        build_leaderboard([path.parents[2]]).write_page(page)
    with pytest.raises(AttnbenchError, match="cannot be written: it is a link"):
        write_files(tmp_path, iter([(page.name, b"new")]))
    assert private.read_text() == "as before"


def test_a_reason_is_no_formula_in_a_spreadsheet(
    store: RecordStore, make_record: MakeRecord
) -> None:
    store.save(make_record(reason="=HYPERLINK(A1)"), SCORES.slice(0, 0))
    board = build_leaderboard([store.path_of(make_record().identity).parents[2]])
    tables = dict(export_files(board.entries, board.boards))
    assert b'"\'=HYPERLINK(A1)"' in tables["results.csv"]
    assert b'"=HYPERLINK' not in tables["results.csv"] + tables["episodes.csv"]


def test_a_record_of_another_task_of_the_same_name_has_a_column_of_its_own(
    store: RecordStore, make_record: MakeRecord
) -> None:
    """A task that is easier may have the name of a shipped one."""
    for submission, sha256 in (("honest", "a" * 64), ("easier", "b" * 64)):
        store.save(make_record(submission=submission, task_sha256=sha256), SCORES)
    (records, problems) = store.load_all()
    page = markdown_of(standings_of([record for _, record in records], {}, {}), "")
    assert not problems and "[aaaaaa]" in page and "[bbbbbb]" in page


def test_scores_of_too_many_rows_are_not_decoded(store: RecordStore, path: Path) -> None:
    """Equal numbers take hardly any space: this file of 80 kB has 84 MB of scores."""
    table = pa.table({"score": np.zeros(21_000_000, np.float32)})
    pq.write_table(table, scores_file(path), compression="zstd")
    assert scores_file(path).stat().st_size < 200_000
    content = path.read_text().replace(
        store.read(path).scores_sha256, sha256_of(scores_file(path).read_bytes())
    )
    path.write_text(content)
    with pytest.raises(ValueError, match="21,000,000 rows, more than 20,000,000"):
        read_scores(path, store.read(path))


def test_texts_that_grow_when_they_are_decoded_are_refused(store: RecordStore, path: Path) -> None:
    """A dictionary holds equal texts once: this small file has 1.2 GB of them."""
    rows = 120_000
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), ["x" * 10_000])
    columns = {"target": text, "image": text, "present": np.ones(rows, bool)}
    old = store.read(path).test_images_sha256
    assert old is not None
    pq.write_table(pa.table(columns), images_file(path, old), store_schema=False)
    content = images_file(path, old).read_bytes()
    assert len(content) < 200_000
    new = sha256_of(content)
    images_file(path, old).rename(images_file(path, new))
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match="more than 1024 MiB of text"):
        read_scores(path, store.read(path))
