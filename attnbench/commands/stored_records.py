"""`attnbench records list` and `remove`: the records that there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.records.folders import StoredRecord, describe_unknown, load_folders
from attnbench.records.record import Identity, Record
from attnbench.records.store import RecordStore
from attnbench.submission import load_submission
from attnbench.vocabulary import Status


@dataclass(frozen=True)
class Filter:
    """What records must have; None stands for anything.

    Attributes:
        submission, task, track, backbone: names.
        seed: the seed.
        status: `ok`, `failed` or `not applicable`.
        outdated: whether the record is of another version of the submission than the one here.
    """

    submission: str | None = None
    task: str | None = None
    track: str | None = None
    backbone: str | None = None
    seed: int | None = None
    status: Status | None = None
    outdated: bool | None = None

    def matches(self, record: Record) -> bool:
        """Return whether a record has all that is asked for."""
        of_identity = ("submission", "task", "track", "backbone", "seed")
        return (
            all(getattr(self, key) in (None, getattr(record.identity, key)) for key in of_identity)
            and self.status in (None, record.status)
            and (self.outdated is None or self.outdated == is_outdated(record.identity))
        )

    @property
    def is_empty(self) -> bool:
        """Whether it matches every record."""
        return all(value is None for value in asdict(self).values())


def is_outdated(identity: Identity) -> bool:
    """Return whether a record is of another version of the submission than the one here.

    The submission here is `submissions/NAME` or `NAME` in the working directory, or the shipped one.
    Without any, no record is outdated.
    """
    return _sha256_here(identity.submission) not in (None, identity.submission_sha256)


@cache
def _sha256_here(name: str) -> str | None:
    folder = Path("submissions", name)
    try:
        return load_submission(folder if folder.is_dir() else name).sha256
    except AttnbenchError:
        return None


def find_records(folders: Sequence[Path], wanted: Filter) -> tuple[list[StoredRecord], list[str]]:
    """Return the records of some folders that match, and a message for each unreadable file.

    Args:
        folders: the folders, which exist.
        wanted: what the records must have.

    Raises:
        AttnbenchError: if no record has the wanted submission, task, track or backbone.
    """
    stored, problems = load_folders(folders)
    keys = ("submission", "task", "track", "backbone")
    if unknown := describe_unknown([(key, getattr(wanted, key)) for key in keys], stored, folders):
        raise AttnbenchError(unknown)
    return [each for each in stored if wanted.matches(each.record)], problems


def remove_records(stored: Sequence[StoredRecord]) -> None:
    """Remove records with their scores and verifications.

    Raises:
        AttnbenchError: if a file cannot be removed; those before it are gone.
    """
    for each in stored:
        RecordStore(each.folder).remove(each.path)
