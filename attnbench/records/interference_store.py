"""Where the records of interference are kept."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from attnbench.files import read_file, write_atomically
from attnbench.records.interference import InterferenceRecord
from attnbench.records.record import Identity
from attnbench.records.store import RecordStore

_MAX_BYTES = 16 << 20
_SCRATCH = ".partial"


class InterferenceStore:
    """The records of interference in a folder, each in one JSON file.

    Args:
        root: the folder, which may not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.claim = RecordStore(root).claim

    def path_of(self, identity: Identity) -> Path:
        """Return the file of the record of this identity."""
        return RecordStore(self._root).path_of(identity)

    def find(self, identity: Identity) -> InterferenceRecord | None:
        """Return the record of exactly this identity, complete or not; None if there is none."""
        try:
            text = read_file(self.path_of(identity), _MAX_BYTES)
            record = InterferenceRecord.model_validate_json(text)
        except (OSError, ValidationError):
            return None
        return record if record.identity == identity else None

    def save(self, record: InterferenceRecord) -> Path:
        """Write a record, and return its path. Raises AttnbenchError if it cannot be written."""
        path = self.path_of(record.identity)
        write_atomically(path, record.model_dump_json(indent=1).encode(), self._root / _SCRATCH)
        return path
