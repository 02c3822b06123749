"""Which records `attnbench compare` compares, out of one's own and the published ones."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.leaderboard.comparable import CONTROL
from attnbench.leaderboard.pooling import Setting, setting_of
from attnbench.records.folders import StoredRecord, describe_unknown, load_folders
from attnbench.records.store import RecordStore

# A setting of a track.
TrackSetting = tuple[str, Setting]


def records_to_compare(
    submissions: Sequence[str], folders: Sequence[Path], wanted: Mapping[str, str | None]
) -> dict[TrackSetting, list[StoredRecord]]:
    """Return the complete records of each setting in which all submissions have some.

    In each setting, a submission is represented by its version in the first folder that has one, with
    one record per seed and kind of device. The records of the control are among them.

    Args:
        submissions: their names.
        folders: the folders of records, in the order of their precedence.
        wanted: what `track`, `task` and `backbone` must be; None for any.

    Raises:
        AttnbenchError: if there is no such setting. The message names what is missing.
    """
    by_setting: dict[TrackSetting, list[StoredRecord]] = defaultdict(list)
    for stored in _complete_records({*submissions, CONTROL}, folders):
        identity = stored.record.identity
        if all(value in (None, getattr(identity, key)) for key, value in wanted.items()):
            by_setting[identity.track, setting_of(identity)].append(stored)
    chosen = {
        setting: _first_versions(records)
        for setting, records in sorted(by_setting.items())
        if {stored.record.identity.submission for stored in records} >= set(submissions)
    }
    if not chosen:
        raise AttnbenchError(_why_nothing(submissions, folders, wanted))
    return chosen


def _complete_records(submissions: Set[str], folders: Sequence[Path]) -> Iterator[StoredRecord]:
    prefixes = tuple(f"{name}@" for name in submissions)
    for folder in folders:
        store = RecordStore(folder)
        for path in store.paths():
            if not path.name.startswith(prefixes):  # reading a thousand records takes a second
                continue
            with contextlib.suppress(AttnbenchError):  # `attnbench records` lists these
                record = store.load(path)
                if record.status == "ok" and record.identity.submission in submissions:
                    yield StoredRecord(folder, path, record)


def _first_versions(records: Sequence[StoredRecord]) -> list[StoredRecord]:
    version: dict[str, str] = {}
    chosen: dict[tuple[str, int, str], StoredRecord] = {}
    for stored in records:
        identity = stored.record.identity
        sha256 = version.setdefault(identity.submission, identity.submission_sha256)
        if identity.submission_sha256 == sha256:
            chosen.setdefault((identity.submission, identity.seed, identity.device), stored)
    return list(chosen.values())


def _why_nothing(
    submissions: Sequence[str], folders: Sequence[Path], wanted: Mapping[str, str | None]
) -> str:
    """Return why there is nothing to compare: which name has no records, or what they lack."""
    asked = [*(("submission", name) for name in submissions), *wanted.items()]
    if unknown := describe_unknown(asked, load_folders(folders)[0], folders):
        return f"{unknown[:2000]}; `attnbench evaluate` makes records"
    return (
        f"{' and '.join(map(str, folders))}: no task has a complete record of each of "
        f"{', '.join(submissions)}, with the same versions of task and backbone; "
        "`attnbench evaluate` makes them"
    )
