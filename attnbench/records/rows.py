"""A record as one row, with the same columns in the data frame, in `--json` and in exports."""

from __future__ import annotations

from pathlib import Path

from attnbench.records.record import Identity, Record, Summary
from attnbench.vocabulary import Status

_FROM_IDENTITY = ("submission", "task", "track", "backbone", "seed", "device")
_FROM_SUMMARY = (
    "targets",
    "d_prime",
    "d_prime_low",
    "d_prime_high",
    "d_prime_pooled",
    "criterion",
    "d_a",
    "auc",
    "hit_rate",
    "false_alarm_rate",
    "parameters_added",
    "parameters_changed",
    "other_numbers",
    "artefact_bytes",
    "peak_memory_bytes",
    "adaptation_seconds",
    "adaptation_seconds_cold",
    "adaptation_passes",
    "prediction_seconds",
)
COLUMNS = (
    *_FROM_IDENTITY,
    "status",
    "reason",
    *_FROM_SUMMARY,
    "precision",
    "isolation",
    "record",
)


def row_of(record: Record, path: Path) -> dict[str, object]:
    """Return the record's row, by column. Values that a failure left out are None.

    Args:
        record: the record.
        path: its JSON file.
    """
    return row_of_summary(record.identity, record.status, record.reason, record.summary, path)


def row_of_summary(
    identity: Identity, status: Status, reason: str, summary: Summary, path: Path | None
) -> dict[str, object]:
    """Return the row that a record with this summary has, or would have.

    Args:
        identity: the record's identity.
        status, reason: see `attnbench.records.summary.overall`.
        summary: of the record, or of some of its episodes.
        path: the record's JSON file, or None if there is none yet.
    """
    row: dict[str, object] = {name: getattr(identity, name) for name in _FROM_IDENTITY}
    row |= {"status": status, "reason": reason}
    row |= {name: getattr(summary, name) for name in _FROM_SUMMARY}
    return row | {
        "precision": ", ".join(summary.precision) or None,
        "isolation": identity.isolation,
        "record": None if path is None else str(path),
    }
