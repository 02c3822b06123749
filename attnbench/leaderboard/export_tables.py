"""The tables of an export as data frames: results, episodes and error consistency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from attnbench.leaderboard.agreement import Agreement, agreements
from attnbench.leaderboard.entries import Entry, group_entries
from attnbench.leaderboard.pooling import Setting
from attnbench.leaderboard.standings import Standings, StandingsRow
from attnbench.records.record import EpisodeResult
from attnbench.records.rows import COLUMNS, row_of
from attnbench.text import printable

_INTEGER_COLUMNS = (
    "seed",
    "targets",
    "hits",
    "positives",
    "false_alarms",
    "negatives",
    "parameters_added",
    "parameters_changed",
    "other_numbers",
    "artefact_bytes",
    "peak_memory_bytes",
    "images",
    "rank_low",
    "rank_high",
)
_BOOLEAN_COLUMNS = ("contended", "untrained", "has_labels")
_IDENTITY_COLUMNS = (
    "submission",
    "submission_sha256",
    "task",
    "track",
    "backbone",
    "seed",
    "device",
)
_MEASURE_COLUMNS = (
    "hits",
    "positives",
    "false_alarms",
    "negatives",
    "hit_rate",
    "false_alarm_rate",
    "d_prime",
    "criterion",
    "d_a",
    "auc",
)
_COST_COLUMNS = (
    "parameters_added",
    "parameters_changed",
    "other_numbers",
    "artefact_bytes",
    "peak_memory_bytes",
    "adaptation_seconds",
    "adaptation_seconds_cold",
    "pass_seconds",
    "prediction_seconds",
    "contended",
)
EPISODE_COLUMNS = (
    *_IDENTITY_COLUMNS,
    "target",
    "status",
    "reason",
    *_MEASURE_COLUMNS,
    *_COST_COLUMNS,
    "images_sha256",
    "badge",
    "record",
)
_SETTING_COLUMNS = ("task", "task_sha256", "backbone", "untrained")
_METHOD_COLUMNS = ("submission", "submission_sha256", "device")
_ESTIMATE_COLUMNS = ("d_prime", "d_a", "difference")
STANDINGS_COLUMNS = (
    "track",
    "has_labels",
    *_METHOD_COLUMNS,
    "verdict",
    "rank_low",
    "rank_high",
    *(f"{name}{end}" for name in _ESTIMATE_COLUMNS for end in ("", "_low", "_high")),
    "lacking",
)
_KAPPA_COLUMNS = ("kappa", "kappa_low", "kappa_high", "kappa_largest")
CONSISTENCY_COLUMNS = (
    "track",
    *_SETTING_COLUMNS,
    "trials",
    *(f"{name}_{side}" for side in "ab" for name in _METHOD_COLUMNS),
    *_KAPPA_COLUMNS,
    "images",
)


def results(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return a row per submission, task, track, backbone and seed (`attnbench.records.rows`).

    Each text is one bounded line; paths start with the name of the records folder.
    """
    rows = [row_of(entry.record, entry.file) for entry in entries]
    return _frame(rows, COLUMNS)


def episodes(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return a row per episode with `EPISODE_COLUMNS`; a failed episode has no measures or costs."""
    rows = [_episode_row(entry, episode) for entry in entries for episode in entry.record.episodes]
    return _frame(rows, EPISODE_COLUMNS)


def standings_table(boards: Sequence[Standings]) -> pd.DataFrame:
    """Return a row per method of each of the standings, with `STANDINGS_COLUMNS`, in their order."""
    rows = [_standings_row(standings, row) for standings in boards for row in standings.rows]
    return _frame(rows, STANDINGS_COLUMNS)


def consistency(entries: Sequence[Entry], boards: Sequence[Standings]) -> pd.DataFrame:
    """Return a row per pair of methods, setting and image class, with `CONSISTENCY_COLUMNS`.

    Each setting has the same methods as in its plots: at most the 40 with the largest d'.
    """
    by_track = group_entries(entries)
    rows = [
        row
        for standings in boards
        for setting in standings.settings
        for agreement in agreements(setting, standings, by_track[standings.track][setting])
        for row in _agreement_rows(standings.track, setting, agreement)
    ]
    return _frame(rows, CONSISTENCY_COLUMNS)


def _standings_row(standings: Standings, row: StandingsRow) -> dict[str, object]:
    placement = row.placement
    cells: dict[str, object] = {"track": standings.track, "has_labels": standings.has_labels}
    cells |= {name: getattr(row.method, name) for name in _METHOD_COLUMNS}
    cells |= {"verdict": placement.verdict, "lacking": placement.lacking}
    cells["rank_low"], cells["rank_high"] = placement.ranks or (None, None)
    for name in _ESTIMATE_COLUMNS:
        estimate = getattr(placement, name)
        low, high = (estimate and estimate.interval) or (None, None)
        cells |= {name: estimate and estimate.value, f"{name}_low": low, f"{name}_high": high}
    return cells


def _agreement_rows(
    track: str, setting: Setting, agreement: Agreement
) -> Iterator[dict[str, object]]:
    matrix, methods = agreement.matrix, agreement.methods
    for a, b in combinations(range(len(methods)), 2):
        row: dict[str, object] = {"track": track, "trials": agreement.trials}
        row |= {name: getattr(setting, name) for name in _SETTING_COLUMNS}
        for side, method in (("a", methods[a]), ("b", methods[b])):
            row |= {f"{name}_{side}": getattr(method, name) for name in _METHOD_COLUMNS}
        kappas = (matrix.kappa, matrix.low, matrix.high, matrix.largest)
        row |= {
            name: None if np.isnan(values[a, b]) else float(values[a, b])
            for name, values in zip(_KAPPA_COLUMNS, kappas, strict=True)
        }
        yield row | {"images": int(matrix.images[a, b])}


def _episode_row(entry: Entry, episode: EpisodeResult) -> dict[str, object]:
    identity = entry.record.identity
    row: dict[str, object] = {name: getattr(identity, name) for name in _IDENTITY_COLUMNS}
    row |= {name: getattr(episode, name) for name in ("target", "status", "reason")}
    row |= {name: getattr(episode.measures, name, None) for name in _MEASURE_COLUMNS}
    row |= {name: getattr(episode.cost, name, None) for name in _COST_COLUMNS}
    row |= {"images_sha256": episode.images_sha256, "badge": entry.badge}
    return row | {"record": str(entry.file)}


def _frame(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    """Return rows as a frame, with nullable types: integers stay integers if some are missing."""
    arrays: dict[str, Any] = {}
    for name in columns:
        values: list[Any] = [row[name] for row in rows]
        if name in _INTEGER_COLUMNS:
            arrays[name] = pd.array(values, dtype="Int64")
        elif name in _BOOLEAN_COLUMNS:
            arrays[name] = pd.array(values, dtype="boolean")
        elif any(isinstance(value, str) for value in values):
            lines = {value: printable(value) for value in set(values) - {None}}
            arrays[name] = pd.array([lines.get(value) for value in values], dtype="string")
        else:
            arrays[name] = pd.array(values, dtype="float64")
    return pd.DataFrame(arrays)
