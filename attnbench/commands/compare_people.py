"""`attnbench compare METHOD people`: detectors beside people who answered the same pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.commands.records_to_compare import TrackSetting, records_to_compare
from attnbench.errors import AttnbenchError
from attnbench.leaderboard.people import BesidePeople, ScoredImages, beside_people
from attnbench.leaderboard.people_settings import trials_in_data
from attnbench.leaderboard.pooling import pool_records
from attnbench.records.folders import StoredRecord, folders_to_read
from attnbench.records.scores import read_scores
from attnbench.records.trials import read_trials
from attnbench.statistics.detection import criterion, d_prime, pool
from attnbench.vocabulary import PEOPLE


@dataclass(frozen=True)
class DetectorMeasures:
    """A detector's own measures, in z units.

    Attributes:
        d_prime, criterion, d_a: means over targets and seeds.
        pooled_d_prime, pooled_criterion: from rates pooled over targets and seeds.
    """

    d_prime: float
    criterion: float
    d_a: float
    pooled_d_prime: float
    pooled_criterion: float


@dataclass(frozen=True)
class SettingBesidePeople:
    """Submissions beside people in one setting.

    Attributes:
        task, track, backbone: the setting.
        measures: of each submission, by name.
        comparisons: with people, one for each time that pictures were presented.
    """

    task: str
    track: str
    backbone: str
    measures: Mapping[str, DetectorMeasures]
    comparisons: tuple[BesidePeople, ...]


def compare_with_people(
    submissions: Sequence[str],
    *,
    trials: Path | None = None,
    data: Path | None = None,
    records: Path | Sequence[Path] | None = None,
    track: str | None = None,
    task: str | None = None,
    backbone: str | None = None,
) -> list[SettingBesidePeople]:
    """Compare submissions with people in every setting that all of them have records of.

    Args:
        submissions: at least one name.
        trials: a file of trials, see `attnbench.records.trials`. It is for one track.
        data: the data folder, in which tasks name their trials. Not used if `trials` is given.
        records: the folder or folders of records; by default `records` and `published`.
        track, task, backbone: the only track, task or backbone to compare on. By default all.

    Raises:
        AttnbenchError: if there are no such records or no trials, or one of them cannot be used.
    """
    if not submissions or len(set(submissions)) < len(submissions):
        raise AttnbenchError(f"name one or several different submissions beside {PEOPLE}")
    wanted = {"track": track, "task": task, "backbone": backbone}
    chosen = records_to_compare(submissions, folders_to_read(records), wanted)
    files = _files_of_trials(chosen, trials, data)
    return [
        _compare_in_setting(setting, submissions, chosen[setting], file)
        for setting, file in files.items()
    ]


def _files_of_trials(
    settings: Mapping[TrackSetting, object], trials: Path | None, data: Path | None
) -> dict[TrackSetting, Path]:
    tracks = sorted({(setting.task, track) for track, setting in settings})
    if trials is not None:
        if len(tracks) > 1:
            named = ", ".join(f"{task} ({track})" for task, track in tracks)
            raise AttnbenchError(
                f"--trials {trials} is of one track, but there are records of {named}; name one with "
                "--task and --track"
            )
        return dict.fromkeys(settings, trials)
    files = {
        (track, setting): file
        for track, setting in settings
        if (file := trials_in_data(setting.task, track, data)) is not None
    }
    if not files:
        named = ", ".join(f"{task} ({track})" for task, track in tracks)
        raise AttnbenchError(
            f"there are no trials of people for {named}; pass --trials FILE, or --data DIR with the "
            "pictures and trials of the task `people`"
        )
    return files


def _compare_in_setting(
    track_setting: TrackSetting,
    submissions: Sequence[str],
    stored: Sequence[StoredRecord],
    file: Path,
) -> SettingBesidePeople:
    track, setting = track_setting
    by_name: dict[str, list[StoredRecord]] = defaultdict(list)
    for one in sorted(stored, key=lambda one: one.record.identity.seed):
        by_name[one.record.identity.submission].append(one)
    detectors = {name: scored_images(by_name[name]) for name in submissions}
    return SettingBesidePeople(
        task=setting.task,
        track=track,
        backbone=setting.backbone,
        measures={name: _measures(by_name[name]) for name in submissions},
        comparisons=tuple(beside_people(detectors, read_trials(file))),
    )


def scored_images(stored: Sequence[StoredRecord]) -> ScoredImages:
    """Return the scores of a submission's records. Raises AttnbenchError if they cannot be used."""
    tables = []
    for one in stored:
        try:
            tables.append(read_scores(one.path, one.record))
        except ValueError as error:
            raise AttnbenchError(f"{one.path}: {error}") from None
    return ScoredImages.of(tables)


def _measures(stored: Sequence[StoredRecord]) -> DetectorMeasures:
    pooled = pool_records([one.record for one in stored])
    measures = [episode.measures for episode in pooled.episodes if episode.measures is not None]
    counts = pool([one.counts for one in measures])
    # Records to compare are complete, so each episode has measures.
    assert pooled.d_prime is not None and pooled.d_a is not None
    return DetectorMeasures(
        d_prime=pooled.d_prime,
        criterion=sum(one.criterion for one in measures) / len(measures),
        d_a=pooled.d_a,
        pooled_d_prime=d_prime(counts),
        pooled_criterion=criterion(counts),
    )
