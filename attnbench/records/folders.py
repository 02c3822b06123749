"""Reading records from several folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.records.record import Record
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
        given: the folder or folders that the user named. None for the default ones that exist.
        default: the names of the default folders.

    Raises:
        AttnbenchError: if a named folder does not exist, or none of the default ones does.
    """
    if given is None:
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


def unknown_name(key: str, name: str, known: Sequence[str], folders: Sequence[Path]) -> str:
    """Return the message for a name of which there are no records.

    Args:
        key: what it is the name of: `submission`, `task`, `track` or `backbone`.
        name: the name.
        known: the names of which there are records.
        folders: the folders that were searched.
    """
    where = " and ".join(map(str, folders))
    return (
        f"no record of the {key} {name} in {where}{did_you_mean(name, known, '; ')} "
        f"(there are records of: {', '.join(known) or 'nothing'})"
    )
