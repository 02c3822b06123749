"""`attnbench compare`: is one method really better than another, on the same episodes and images?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnbench.commands.records_to_compare import TrackSetting, records_to_compare
from attnbench.errors import AttnbenchError
from attnbench.leaderboard.comparable import CONTROL, EpisodeTable, tabulate_episodes
from attnbench.leaderboard.comparison import (
    PairComparison,
    SettingDifference,
    TrackComparison,
    targets_to_show,
)
from attnbench.leaderboard.pooling import Setting, SettingResult, pool_records
from attnbench.records.folders import StoredRecord, folders_to_read
from attnbench.records.integrity import responses_by_target
from attnbench.records.record import Measures
from attnbench.records.scores import read_scores
from attnbench.statistics.consistency import consistency
from attnbench.statistics.detection import detect
from attnbench.statistics.intervals import Floats
from attnbench.statistics.joint_means import JointMeans, joint_means
from attnbench.statistics.ranking import LEVEL, holm, mean_of_known, paired_differences

_ORDER = [("target", "ascending"), ("image", "ascending")]


@dataclass(frozen=True)
class EpisodeDecisions:
    """A detector's decisions on the images of an episode, ordered by name; bool `[n]` each.

    Attributes:
        present: whether the target is in the image.
        decisions: whether the detector called it present.
    """

    present: NDArray[np.bool_]
    decisions: NDArray[np.bool_]


# Target, seed and hash of the images.
EpisodeKey = tuple[str, int, str]
Decisions = Mapping[EpisodeKey, EpisodeDecisions]


def compare(
    submissions: Sequence[str],
    *,
    records: Path | Sequence[Path] | None = None,
    track: str | None = None,
    task: str | None = None,
    backbone: str | None = None,
    report: Callable[[str, int, int], None] = lambda setting, done, total: None,
) -> list[TrackComparison]:
    """Compare submissions on every track on which all of them have records.

    Differences are joint over the settings that the control has, as on the leaderboard. If it has none
    of those that all submissions have, they are joint over all of these.

    Args:
        submissions: at least two names.
        records: the folder or folders of records; by default `records` and `published`. In each
            setting, a submission is represented by its version in the first folder that has one.
        track, task, backbone: the only track, task or backbone to compare on. By default all.
        report: called before the scores of each setting are read, with its task and track, and with
            the numbers of settings done and in total.

    Returns:
        A comparison for each track, of targets with a label and of those without.

    Raises:
        AttnbenchError: if there is nothing to compare, or the scores of a record cannot be used.
    """
    if len(submissions) < 2 or len(set(submissions)) < len(submissions):
        raise AttnbenchError("name at least two different submissions")
    wanted = {"track": track, "task": task, "backbone": backbone}
    chosen = records_to_compare(submissions, folders_to_read(records), wanted)
    groups: dict[tuple[str, bool], dict[Setting, list[StoredRecord]]] = defaultdict(dict)
    decisions: dict[TrackSetting, Mapping[str, Decisions]] = {}
    for done, ((track_name, setting), stored) in enumerate(chosen.items()):
        report(f"{setting.task} ({track_name})", done, len(chosen))
        found: dict[str, dict[EpisodeKey, EpisodeDecisions]] = {name: {} for name in submissions}
        scored = [_scored(one, found) for one in stored]
        decisions[track_name, setting] = found
        pooled = pool_records([one.record for one in scored])
        groups[track_name, pooled.has_labels][setting] = scored
    # Targets with a label come before those without.
    return [
        _compare_on_track(name, has_labels, submissions, groups[name, has_labels], decisions)
        for name, has_labels in sorted(groups, key=lambda group: (group[0], not group[1]))
    ]


def _compare_on_track(
    track: str,
    has_labels: bool,
    submissions: Sequence[str],
    records: Mapping[Setting, Sequence[StoredRecord]],
    decisions: Mapping[TrackSetting, Mapping[str, Decisions]],
) -> TrackComparison:
    table = tabulate_episodes(
        [_results(name, records) for name in (CONTROL, *submissions)], list(records)
    )
    compared = ~np.isnan(table.d_a[0]).all(axis=(1, 2))
    if not compared.any():
        compared[:] = True
    numbers = list(combinations(range(len(submissions)), 2))
    joint = {pair: _joint_differences(table, pair, compared, track) for pair in numbers}
    ps = np.array([d_a.p_values()[0] for _, d_a in joint.values()])
    pairs = []
    for pair, p, p_holm in zip(numbers, ps.tolist(), holm(ps).tolist(), strict=True):
        d_prime, d_a = joint[pair]
        first, second = (submissions[number] for number in pair)
        more = float(d_a.more_targets(LEVEL / len(numbers))[0])
        in_settings = tuple(
            _setting_difference(
                track,
                setting,
                bool(compared[number]),
                _joint_differences(table, pair, np.arange(len(compared)) == number, track),
                decisions[track, setting][first],
                decisions[track, setting][second],
            )
            for number, setting in enumerate(table.settings)
        )
        pairs.append(
            PairComparison(
                first,
                second,
                d_prime.estimate(0),
                d_a.estimate(0),
                p=None if np.isnan(p) else p,
                p_holm=None if np.isnan(p) else p_holm,
                more_targets=targets_to_show(more, d_a.targets, p_holm < LEVEL),
                settings=in_settings,
            )
        )
    shared = ~np.isnan(table.d_a[1:, compared].sum(axis=0))
    return TrackComparison(
        track,
        has_labels,
        tasks=tuple(
            (setting.task, setting.backbone)
            for setting, is_compared in zip(table.settings, compared, strict=True)
            if is_compared
        ),
        targets=int(shared.any(axis=(0, 2)).sum()),
        episodes=int(shared.sum()),
        d_prime=_means(submissions, table.d_prime[1:, compared]),
        d_a=_means(submissions, table.d_a[1:, compared]),
        pairs=tuple(pairs),
        folders={
            stored.record.identity.submission: str(stored.folder)
            for of_setting in records.values()
            for stored in of_setting
            if stored.record.identity.submission in submissions
        },
    )


def _results(
    name: str, records: Mapping[Setting, Sequence[StoredRecord]]
) -> dict[Setting, SettingResult]:
    """Return a submission's results by setting."""
    of_submission = {
        setting: [one.record for one in stored if one.record.identity.submission == name]
        for setting, stored in records.items()
    }
    return {setting: pool_records(found) for setting, found in of_submission.items() if found}


def _joint_differences(
    table: EpisodeTable, pair: tuple[int, int], compared: NDArray[np.bool_], track: str
) -> tuple[JointMeans, JointMeans]:
    """Return the differences of a pair of submissions in d' and in d_a, joint over some settings."""
    first, second = (1 + number for number in pair)  # the control is number 0
    d_prime, d_a = (
        paired_differences(values[first : first + 1, compared], values[second, compared])
        for values in (table.d_prime, table.d_a)
    )
    for setting, of_setting in zip(np.flatnonzero(compared), d_a, strict=True):
        if np.isnan(of_setting).all():
            raise _nothing_in_common(table.settings[setting], track)
    return joint_means(d_prime), joint_means(d_a)


def _nothing_in_common(setting: Setting, track: str) -> AttnbenchError:
    return AttnbenchError(
        f"the records of {setting.task} ({track}) have no episode in common: their seeds or images "
        "differ"
    )


def _setting_difference(
    track: str,
    setting: Setting,
    in_mean: bool,
    differences: tuple[JointMeans, JointMeans],
    first: Decisions,
    second: Decisions,
) -> SettingDifference:
    d_prime, d_a = differences
    common = [
        key
        for key in sorted(first.keys() & second.keys())
        if np.array_equal(first[key].present, second[key].present)
    ]
    if not common:
        raise _nothing_in_common(setting, track)
    present = np.concatenate([first[key].present for key in common])
    decided = [
        np.concatenate([of_one[key].decisions for key in common]) for of_one in (first, second)
    ]
    return SettingDifference(
        setting.task,
        setting.backbone,
        d_a.targets,
        in_mean,
        d_prime.estimate(0),
        d_a.estimate(0),
        present=consistency(decided[0][present], decided[1][present]),
        absent=consistency(decided[0][~present], decided[1][~present]),
    )


def _means(submissions: Sequence[str], values: Floats) -> dict[str, float]:
    """Return each submission's mean over settings of means over targets."""
    return {
        name: float(joint_means(mean_of_known(of_one)[..., None]).estimates[0])
        for name, of_one in zip(submissions, values, strict=True)
    }


def _scored(
    stored: StoredRecord, decisions: Mapping[str, dict[EpisodeKey, EpisodeDecisions]]
) -> StoredRecord:
    """Return a record with measures computed from its scores, and add its decisions.

    Args:
        stored: the record; that of a submission that is not compared is returned as it is.
        decisions: of each submission that is compared. A second record of an episode adds nothing.
    """
    path, record = stored.path, stored.record
    name, seed = record.identity.submission, record.identity.seed
    if name not in decisions:
        return stored
    try:
        # Records need not keep images in the same order.
        responses = responses_by_target(read_scores(path, record).sort_by(_ORDER))
    except ValueError as error:
        raise AttnbenchError(f"{path}: {error}") from None
    episodes = []
    for episode in record.episodes:
        found = responses.get(episode.target)
        if found is None or found.present.all() or not found.present.any():
            raise AttnbenchError(
                f"{path}: scores of positives or of negatives of {episode.target} are missing"
            )
        key = episode.target, seed, episode.images_sha256
        decisions[name].setdefault(key, EpisodeDecisions(found.present, found.scores > 0))
        measures = Measures.of(detect(found.scores, found.present))
        episodes.append(episode.model_copy(update={"measures": measures}))
    scored = record.model_copy(update={"episodes": tuple(episodes)})
    return StoredRecord(stored.folder, path, scored)
