"""Reading records from several folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.records.record import Record
from attnbench.records.store import RecordStore
from attnbench.text import did_you_mean
from attnbench.vocabulary import PUBLISHED_FOLDER, RECORDS_FOLDER


@dataclass(frozen=True)
class StoredRecord:
    """A record, its file, and the records folder that it is in."""

    folder: Path
    path: Path
    record: Record


def folders_to_read(
    given: Path | Sequence[Path] | None,
    default: Sequence[str] = (RECORDS_FOLDER, PUBLISHED_FOLDER),
) -> list[Path]:
    """Return the folders of records to read, in the order of their precedence.

    Args:
        given: the folder or folders that the user named. None or an empty sequence for the default
            ones that exist.
        default: the names of the default folders.

    Raises:
        AttnbenchError: if a named folder does not exist, or none of the default ones does.
    """
    if not given:
        existing = [Path(name) for name in default if Path(name).is_dir()]
        if not existing:
            raise AttnbenchError(
                f"there are no records here: no folder is named {' or '.join(default)}. "
                "`attnbench evaluate` makes records; --records names another folder"
            )
        return existing
    folders = [given] if isinstance(given, Path) else list(given)
    for folder in folders:
        if not folder.is_dir():
            raise AttnbenchError(
                f"{folder} is not a folder; use --records to name a folder of records"
            )
    return folders


def load_folders(folders: Sequence[Path]) -> tuple[list[StoredRecord], list[str]]:
    """Read all records of some folders. Also return the problems of files that were skipped."""
    stored, problems = [], []
    for folder in folders:
        loaded, unreadable = RecordStore(folder).load_all()
        stored += [StoredRecord(folder, path, record) for path, record in loaded]
        problems += unreadable
    return stored, problems


def describe_unknown(
    names: Iterable[tuple[str, str | None]],
    stored: Sequence[StoredRecord],
    folders: Sequence[Path],
) -> str:
    """Return a message about the first name of which there are no records; empty if there is none.

    Args:
        names: pairs of a key (`submission`, `task`, `track` or `backbone`) and a name, or None.
        stored: the records that there are.
        folders: the folders that they are from.
    """
    for key, name in names:
        known = sorted({getattr(each.record.identity, key) for each in stored})
        if name is not None and name not in known:
            where = " and ".join(map(str, folders))
            return (
                f"no record of the {key} {name} in {where}{did_you_mean(name, known, '; ')} "
                f"(there are records of: {', '.join(known) or 'nothing'})"
            )
    return ""
