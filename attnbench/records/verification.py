"""The outcome of verifying a record, kept beside it, and the badge it earns."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attnbench.files import read_file
from attnbench.records.record import Environment, Sha256, Text
from attnbench.vocabulary import Badge

MAX_BYTES = 1 << 20  # of a file with a verification


class Verification(BaseModel):
    """The outcome of `attnbench verify`.

    Attributes:
        record_sha256: the SHA-256 (hex) of the record's JSON when it was verified. If the record has
            changed since, the verification says nothing about it.
        targets: the targets whose episodes were run again.
        problems: what did not hold.
        unsettled: what could not be decided: other work kept the CPU busy, or this device does not
            compute in the recorded precision.
        environment: the machine and versions that the episodes were run again with.
        created: when the record was verified, in ISO 8601.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    record_sha256: Sha256
    targets: tuple[Text, ...]
    problems: Annotated[tuple[Text, ...], Field(max_length=1000)]
    unsettled: Annotated[tuple[Text, ...], Field(max_length=1000)] = ()
    environment: Environment
    created: Text


def path_beside(record: Path) -> Path:
    """Return the file of a record's verification, given the record's file."""
    return record.with_name(f"{record.name}.verification")


def fingerprint_of(record: Path) -> str:
    """Return the SHA-256 (hex) of a record's file."""
    return hashlib.sha256(record.read_bytes()).hexdigest()


def badge_of(path: Path, contradictions: Sequence[str]) -> Badge:
    """Return the badge of a record.

    A record that contradicts itself has failed, whatever its verification says.

    Args:
        path: the record's JSON file.
        contradictions: what `attnbench.records.integrity` finds in the record.
    """
    if contradictions:
        return "failed verification"
    try:
        content = read_file(path_beside(path), MAX_BYTES, follow_link=False)
        verification = Verification.model_validate_json(content)
    except (OSError, ValidationError):
        return "self-reported"
    if verification.record_sha256 != fingerprint_of(path) or not verification.targets:
        return "self-reported"
    if verification.problems:
        return "failed verification"
    return "self-reported" if verification.unsettled else "verified"
