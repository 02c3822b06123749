"""Records that an earlier version of a shipped submission made."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from attnbench.errors import AttnbenchError
from attnbench.records.record import Record
from attnbench.resources import submissions_folder
from attnbench.submission import MANIFEST, load_submission


def count_stale(records: Iterable[Record]) -> int:
    """Count the records whose source hash differs from that of the shipped submission of that name.

    Records of submissions that are not shipped are not counted, nor are those of a shipped one that
    cannot be loaded here, for instance because a library of its manifest is not installed.
    """
    shipped_sha256 = cache(_shipped_sha256)
    return sum(
        shipped_sha256(record.identity.submission) not in (None, record.identity.submission_sha256)
        for record in records
    )


def _shipped_sha256(name: str) -> str | None:
    """Return the hash of the shipped submission of this name; None if there is none."""
    folder = submissions_folder() / name
    if not (folder / MANIFEST).is_file():
        return None
    try:
        return load_submission(folder).sha256
    except AttnbenchError:
        return None
