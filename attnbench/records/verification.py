"""The outcome of verifying a record, kept beside it, and the badge that a record earns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from attnbench.records.audit import read_audit
from attnbench.records.companions import Companion, read_companion
from attnbench.records.record import Text
from attnbench.vocabulary import Badge


class Verification(Companion):
    """The outcome of `attnbench verify`.

    Attributes:
        targets: the targets whose episodes were run again.
        problems: what did not hold.
        unsettled: what could not be decided: other work kept the CPU busy, or this device does not
            compute in the recorded precision.
    """

    targets: tuple[Text, ...]
    problems: Annotated[tuple[Text, ...], Field(max_length=1000)]
    unsettled: Annotated[tuple[Text, ...], Field(max_length=1000)] = ()


def path_beside(record: Path) -> Path:
    """Return the file of a record's verification, given the record's file."""
    return record.with_name(f"{record.name}.verification")


def badge_of(path: Path, contradictions: Sequence[str]) -> Badge:
    """Return the badge of a record, from its verification and its audit.

    A record that contradicts itself has failed, whatever its verification says. An audit does not
    make up for a failed verification.

    Args:
        path: the record's JSON file.
        contradictions: what `attnbench.records.integrity` finds in the record.
    """
    if contradictions:
        return "failed verification"
    verification = read_companion(Verification, path_beside(path), path)
    if verification is not None and verification.targets and verification.problems:
        return "failed verification"
    is_verified = verification is not None and verification.targets and not verification.unsettled
    audit = read_audit(path)
    if audit is None or not audit.is_conclusive:
        return "verified" if is_verified else "self-reported"
    if audit.is_beyond_chance:
        return "better on public seeds"
    return "verified and audited" if is_verified else "audited"
