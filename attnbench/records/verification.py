"""What a second look at a record found, kept beside it, and the badge it gives."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attnbench.records.integrity import Responses, contradictions, contradictions_with
from attnbench.records.record import Environment, Record, Sha256, Text

Badge = Literal["self-reported", "verified", "failed verification"]
_LIMIT = 1 << 20


class Verification(BaseModel):
    """The outcome of `attnbench verify`.

    Attributes:
        record_sha256: of the record's JSON as it was verified; of another one, this says nothing.
        targets: whose episodes were run again.
        problems: what did not hold.
        unsettled: what could not be told, as other work kept the processors busy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    record_sha256: Sha256
    targets: tuple[Text, ...]
    problems: Annotated[tuple[Text, ...], Field(max_length=1000)]
    unsettled: Annotated[tuple[Text, ...], Field(max_length=1000)] = ()
    environment: Environment
    created: Text


def path_beside(record: Path) -> Path:
    """Where the verification of the record in a file is kept."""
    return record.with_name(f"{record.name}.verification")


def fingerprint_of(record: Path) -> str:
    """SHA-256 (hex) of a record's file."""
    return hashlib.sha256(record.read_bytes()).hexdigest()


def badge_of(path: Path, record: Record) -> Badge:
    """The badge of a record: what contradicts itself has failed, whatever is said beside it."""
    return _badge(path, contradictions(path, record))


def badge_with(path: Path, record: Record, responses: Mapping[str, Responses]) -> Badge:
    """The same where the scores have been read already."""
    return _badge(path, contradictions_with(responses, record))


def _badge(path: Path, problems: list[str]) -> Badge:
    if problems:
        return "failed verification"
    try:
        file = path_beside(path)
        if file.stat().st_size > _LIMIT:
            return "self-reported"
        found = Verification.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return "self-reported"
    if found.record_sha256 != fingerprint_of(path) or not found.targets:
        return "self-reported"
    if found.problems:
        return "failed verification"
    return "self-reported" if found.unsettled else "verified"
