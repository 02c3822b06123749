"""The records that a leaderboard is made from, with their badges and summaries of their scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from attnbench.errors import AttnbenchError
from attnbench.leaderboard.pooling import Method, Setting, method_of, setting_of
from attnbench.leaderboard.score_summary import Floats, ScoreSummary, summarise_scores
from attnbench.records.audit import Audit, read_audit
from attnbench.records.integrity import contradictions_with, responses_by_target
from attnbench.records.record import Identity, Record
from attnbench.records.scores import read_scores
from attnbench.records.store import RecordStore
from attnbench.records.verification import badge_of
from attnbench.vocabulary import PUBLISHED_FOLDER, Badge


@dataclass(frozen=True)
class Entry:
    """A record as the leaderboard shows it.

    Attributes:
        folder: the records folder that it is from.
        path: relative to that folder.
        record: the record.
        badge: whether it has been verified and audited.
        scores: a summary of its scores; None if the record is not ok, or if its scores are missing
            or contradict it.
        audit: its audit, if there is one.
    """

    folder: Path
    path: Path
    record: Record
    badge: Badge
    scores: ScoreSummary | None
    audit: Audit | None = None

    @property
    def file(self) -> Path:
        """The record's file, relative to the folder that contains its records folder."""
        return Path(self.folder.name) / self.path

    @property
    def is_own(self) -> bool:
        """Whether it is one of the user's own records, not a published one."""
        return self.folder.name != PUBLISHED_FOLDER

    def read_scores(self) -> pa.Table:
        """Read all scores; see `attnbench.records.scores.read_scores`."""
        return read_scores(self.folder / self.path, self.record)


GroupedEntries = Mapping[str, Mapping[Setting, Mapping[Method, Sequence[Entry]]]]


def read_entries(folders: Sequence[Path]) -> tuple[list[Entry], list[str]]:
    """Read all records of some folders, several at a time in worker processes.

    Returns:
        The entries ordered by folder and path, and a message for each file that could not be used.
        Of records with the same identity, that of the first folder is used.
    """
    files = [(folder, path) for folder in folders for path in RecordStore(folder).paths()]
    with ProcessPoolExecutor() as pool:
        outcomes = list(pool.map(_entry, *zip(*files, strict=True), chunksize=64)) if files else []
    entries: dict[Identity, Entry] = {}
    for outcome in outcomes:
        if isinstance(outcome, Entry):
            entries.setdefault(outcome.record.identity, outcome)
    return list(entries.values()), [outcome for outcome in outcomes if isinstance(outcome, str)]


def _entry(folder: Path, path: Path) -> Entry | str:
    """Return the entry of a record's file, or why the file cannot be used."""
    try:
        record = RecordStore(folder).load(path)
    except AttnbenchError as error:
        return str(error)
    try:
        table = read_scores(path, record)
        responses = responses_by_target(table)
    except ValueError:
        return Entry(folder, path.relative_to(folder), record, "failed verification", None)
    badge = badge_of(path, contradictions_with(responses, record))
    usable = record.status == "ok" and badge != "failed verification"
    scores = summarise_scores(record, responses, table["image"].to_pylist()) if usable else None
    return Entry(folder, path.relative_to(folder), record, badge, scores, read_audit(path))


@dataclass(frozen=True)
class MeanRoc:
    """The mean ROC curve of a method's records in one setting.

    Attributes:
        hit_rates: float `[57]` at `FALSE_ALARM_RATES`.
        errors: float `[57]`, standard errors over targets. Seeds repeat the same targets, so more of
            them make it no smaller.
    """

    hit_rates: Floats
    errors: Floats


def mean_roc(entries: Sequence[Entry]) -> MeanRoc | None:
    """Return the mean ROC curve of a method's records, or None unless every record has scores."""
    scores = [entry.scores for entry in entries if entry.scores is not None]
    if not scores or len(scores) < len(entries):
        return None
    return MeanRoc(
        np.mean([each.hit_rates for each in scores], axis=0),
        np.mean([each.hit_rate_errors for each in scores], axis=0),
    )


def group_entries(entries: Sequence[Entry]) -> GroupedEntries:
    """Group entries by track, setting and method."""
    grouped: dict[str, dict[Setting, dict[Method, list[Entry]]]] = {}
    for entry in entries:
        identity = entry.record.identity
        of_track = grouped.setdefault(identity.track, {})
        of_setting = of_track.setdefault(setting_of(identity), defaultdict(list))
        of_setting[method_of(entry.record)].append(entry)
    return grouped
