"""A record as one row, with the same columns in the data frame, in `--json` and in exports."""

from __future__ import annotations

from pathlib import Path

from attnbench.records.record import Record

_FROM_IDENTITY = ("submission", "task", "track", "backbone", "seed", "device")
_FROM_SUMMARY = (
    "targets",
    "d_prime",
    "d_prime_low",
    "d_prime_high",
    "criterion",
    "d_a",
    "auc",
    "hit_rate",
    "false_alarm_rate",
    "parameters_added",
    "parameters_changed",
    "artefact_bytes",
    "adaptation_seconds",
    "adaptation_seconds_cold",
    "adaptation_passes",
    "prediction_seconds",
)
COLUMNS = (*_FROM_IDENTITY, "status", "reason", *_FROM_SUMMARY, "isolation", "record")


def row_of(record: Record, path: Path) -> dict[str, object]:
    """Return the record's row, by column. Values that a failure left out are None.

    Args:
        record: the record.
        path: its JSON file.
    """
    row: dict[str, object] = {name: getattr(record.identity, name) for name in _FROM_IDENTITY}
    row |= {"status": record.status, "reason": record.reason}
    row |= {name: getattr(record.summary, name) for name in _FROM_SUMMARY}
    return row | {"isolation": record.identity.isolation, "record": str(path)}
