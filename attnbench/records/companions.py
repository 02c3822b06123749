"""Files that are kept beside a record and are tied to its bytes: its verification and its audit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from attnbench.files import read_file
from attnbench.records.record import Environment, Sha256, Text

MAX_BYTES = 1 << 20  # of such a file

CompanionT = TypeVar("CompanionT", bound="Companion")


class Companion(BaseModel):
    """What has been found out about a record since it was made.

    Attributes:
        record_sha256: the SHA-256 (hex) of the record's JSON at that time. If the record has changed
            since, this says nothing about it.
        environment: the machine and versions that its episodes were judged with.
        created: when, in ISO 8601.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    record_sha256: Sha256
    environment: Environment
    created: Text


def fingerprint_of(record: Path) -> str:
    """Return the SHA-256 (hex) of a record's file."""
    return hashlib.sha256(record.read_bytes()).hexdigest()


def read_companion(kind: type[CompanionT], file: Path, record: Path) -> CompanionT | None:
    """Return what a file beside a record contains; None unless it is valid and about this record.

    Args:
        kind: what it should contain.
        file: the file, which may not exist.
        record: the record's JSON file.
    """
    try:
        content = read_file(file, MAX_BYTES, follow_link=False)
        companion = kind.model_validate_json(content)
    except (OSError, ValidationError):
        return None
    return companion if companion.record_sha256 == fingerprint_of(record) else None
