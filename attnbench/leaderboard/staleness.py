"""Records made with an earlier version of attnbench."""

from __future__ import annotations

from collections.abc import Iterable

from attnbench.records.record import Record
from attnbench.version import __version__


def count_stale(records: Iterable[Record]) -> int:
    """Count the records that another version of attnbench has made, or helped to make."""
    return sum(record.environment.attnbench != __version__ for record in records)
