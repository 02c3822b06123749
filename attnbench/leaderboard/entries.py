"""What a leaderboard is made of: records, whether they can be believed, and what their scores show."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnbench.errors import AttnbenchError
from attnbench.leaderboard.standings import Contest, Entrant, contest_of, entrant_of
from attnbench.records.integrity import Responses, read_table, responses_by_target
from attnbench.records.record import Record
from attnbench.records.store import RecordStore
from attnbench.records.verification import Badge, badge_with

Floats = NDArray[np.float64]
# Where curves of several episodes are averaged: closer together where false alarms are few.
FALSE_ALARM_RATES: Floats = np.concatenate([np.linspace(0, 0.1, 21), np.linspace(0.125, 1, 36)])


@dataclass(frozen=True)
class Reading:
    """What the scores of a record show, its episodes one after the other.

    Attributes:
        hit_rates: the ROC curve at `FALSE_ALARM_RATES`, the mean over episodes.
        images: which images these are, with what was present; the same for records of the same ones.
        count: how many.
        present, said: bits, whether each image has the target, and whether the detector says so.
    """

    hit_rates: Floats
    images: str
    count: int
    present: NDArray[np.uint8]
    said: NDArray[np.uint8]


@dataclass(frozen=True)
class Entry:
    """A record as it is published.

    Attributes:
        path: in the records folder.
        reading: None where there are no scores, or not those that the record was made from.
    """

    path: Path
    record: Record
    badge: Badge
    reading: Reading | None


Grouped = Mapping[str, Mapping[Contest, Mapping[Entrant, Sequence[Entry]]]]


def read_entries(folder: Path) -> tuple[list[Entry], list[str]]:
    """All records of a folder in the order of their paths, and what is wrong with those left out."""
    paths = list(RecordStore(folder).paths())
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(_entry, [folder] * len(paths), paths, chunksize=64))
    return (
        [each for each in found if isinstance(each, Entry)],
        [each for each in found if isinstance(each, str)],
    )


def _entry(folder: Path, path: Path) -> Entry | str:
    try:
        record = RecordStore(folder).load(path)
    except AttnbenchError as error:
        return str(error)
    try:
        table = read_table(path, record)
        responses = responses_by_target(table)
    except ValueError:
        return Entry(path.relative_to(folder), record, "failed verification", None)
    badge = badge_with(path, record, responses)
    believed = record.status == "ok" and badge != "failed verification"
    reading = reading_of(record, responses, table["image"].to_pylist()) if believed else None
    return Entry(path.relative_to(folder), record, badge, reading)


def reading_of(
    record: Record, responses: Mapping[str, Responses], images: Sequence[str]
) -> Reading:
    """What the scores of a whole record show.

    Args:
        responses: of each of its targets, with images that have it and images that do not.
        images: the names of all in their order.
    """
    episodes = sorted(record.episodes, key=lambda each: each.target)
    own = [responses[each.target] for each in episodes]
    shown = np.concatenate([each.present for each in own])
    present = np.packbits(shown)
    names = [f"{record.identity.seed}", *(f"{e.target}\0{e.images_sha256}" for e in episodes)]
    digest = hashlib.sha256("\0".join([*names, *images]).encode())
    digest.update(present.tobytes())
    return Reading(
        hit_rates=np.mean([each.roc.hit_rates(FALSE_ALARM_RATES) for each in own], axis=0),
        images=digest.hexdigest(),
        count=len(shown),
        present=present,
        said=np.packbits(np.concatenate([each.scores > 0 for each in own])),
    )


def mean_roc(entries: Sequence[Entry]) -> Floats | None:
    """The mean curve of an entrant's records of one contest; None without the scores of all."""
    readings = [entry.reading for entry in entries]
    if not readings or any(reading is None for reading in readings):
        return None
    return np.asarray(np.mean([each.hit_rates for each in readings if each is not None], axis=0))


def decisions(
    entrants: Sequence[Sequence[Entry]], present: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What entrants said of the images of one contest, and which of these they have seen.

    Args:
        entrants: the records of each.
        present: of the images with the target, or of those without.

    Returns:
        Two of bool `[entrants, images]`.
    """
    sets = {
        entry.reading.images: _unpacked(entry.reading.present, entry.reading)
        for entries in entrants
        for entry in entries
        if entry.reading is not None
    }
    sides = {}
    starts, total = {}, 0
    for name, has_target in sorted(sets.items()):
        sides[name] = has_target if present else ~has_target
        starts[name] = total
        total += int(sides[name].sum())
    said = np.zeros((len(entrants), total), bool)
    known = np.zeros((len(entrants), total), bool)
    for number, entries in enumerate(entrants):
        for entry in entries:
            if entry.reading is not None:
                side, start = sides[entry.reading.images], starts[entry.reading.images]
                own = slice(start, start + int(side.sum()))
                said[number, own] = _unpacked(entry.reading.said, entry.reading)[side]
                known[number, own] = True
    return said, known


def _unpacked(bits: NDArray[np.uint8], reading: Reading) -> NDArray[np.bool_]:
    return np.unpackbits(bits, count=reading.count).astype(bool)


def grouped(entries: Sequence[Entry]) -> Grouped:
    """Entries by track, contest and entrant."""
    found: dict[str, dict[Contest, dict[Entrant, list[Entry]]]] = {}
    for entry in entries:
        identity = entry.record.identity
        of_track = found.setdefault(identity.track, {})
        of_contest = of_track.setdefault(contest_of(identity), defaultdict(list))
        of_contest[entrant_of(entry.record)].append(entry)
    return found


def require_folder(folder: Path) -> None:
    """Raise AttnbenchError where there is no folder of records."""
    if not folder.is_dir():
        raise AttnbenchError(
            f"{folder} is not a folder; `attnbench evaluate` writes records, --records says where"
        )
