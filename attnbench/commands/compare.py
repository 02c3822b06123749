"""`attnbench compare`: is one method really better than another, on the same episodes and images?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from attnbench.commands.records_to_compare import Setting, records_to_compare
from attnbench.errors import AttnbenchError
from attnbench.records.folders import StoredRecord, folders_to_read
from attnbench.records.scores import read_scores
from attnbench.statistics.comparison import differences
from attnbench.statistics.consistency import consistency
from attnbench.statistics.resampling import (
    Trials,
    bootstrap_means,
    d_as,
    d_primes,
    statistic_by_target,
)
from attnbench.statistics.task_comparison import PairComparison, TaskComparison


def compare(
    submissions: Sequence[str],
    *,
    records: Path | Sequence[Path] | None = None,
    track: str | None = None,
    task: str | None = None,
    backbone: str | None = None,
) -> list[TaskComparison]:
    """Compare submissions on every task, track and backbone on which all of them have records.

    Args:
        submissions: at least two names.
        records: the folder or folders of records; by default `records` and `published`. In each
            setting, a submission is represented by its version in the first folder that has one.
        track, task, backbone: the only track, task or backbone to compare on. By default all.

    Returns:
        A comparison for each task, track and backbone.

    Raises:
        AttnbenchError: if there is nothing to compare, or the scores of a record cannot be used.
    """
    if len(submissions) < 2 or len(set(submissions)) < len(submissions):
        raise AttnbenchError("name at least two different submissions")
    wanted = {"track": track, "task": task, "backbone": backbone}
    chosen = records_to_compare(submissions, folders_to_read(records), wanted)
    return [_compare_on_task(setting, submissions, group) for setting, group in chosen.items()]


def _compare_on_task(
    setting: Setting, submissions: Sequence[str], records: Sequence[StoredRecord]
) -> TaskComparison:
    track, task, backbone, *_ = setting
    trials_by_target = _common_trials(submissions, records)
    if not trials_by_target:
        raise AttnbenchError(
            f"the records of {task} ({track}) have no episode in common: their seeds or images "
            "differ"
        )
    targets = list(trials_by_target.values())
    values = statistic_by_target(targets, d_primes)
    d_prime = differences(values, bootstrap_means(targets, d_primes))
    d_a = differences(statistic_by_target(targets, d_as), bootstrap_means(targets, d_as))
    episodes = [trials for seeds in targets for trials in seeds]
    present, absent = (
        np.concatenate(
            [trials.scores[:, trials.present == side] > 0 for trials in episodes], axis=1
        )
        for side in (True, False)
    )
    pairs = tuple(
        PairComparison(
            submissions[difference.first],
            submissions[difference.second],
            difference,
            area_difference,
            consistency(present[difference.first], present[difference.second]),
            consistency(absent[difference.first], absent[difference.second]),
        )
        for difference, area_difference in zip(d_prime, d_a, strict=True)
    )
    means = map(float, values.mean(axis=0))
    return TaskComparison(
        track,
        task,
        backbone,
        episodes=len(episodes),
        d_prime=dict(zip(submissions, means, strict=True)),
        pairs=pairs,
        folders={stored.record.identity.submission: str(stored.folder) for stored in records},
    )


def _common_trials(
    submissions: Sequence[str], records: Sequence[StoredRecord]
) -> dict[str, list[Trials]]:
    """Return the episodes that all submissions have, by target: those with equal seed and images."""
    episodes: dict[tuple[str, int, str], dict[str, pd.DataFrame]] = defaultdict(dict)
    for stored in records:
        record = stored.record
        try:
            scores = read_scores(stored.path, record).to_pandas()
        except ValueError as error:
            raise AttnbenchError(f"{stored.path}: {error}") from None
        for episode in record.episodes:
            rows = scores[scores["target"] == episode.target].sort_values("image")
            key = episode.target, record.identity.seed, episode.images_sha256
            episodes[key][record.identity.submission] = rows
    by_target: dict[str, list[Trials]] = defaultdict(list)
    for (target, *_), rows_of in sorted(episodes.items()):
        if set(rows_of) == set(submissions):
            stacked = np.stack([rows_of[name]["score"].to_numpy() for name in submissions])
            present = rows_of[submissions[0]]["present"].to_numpy(bool)
            by_target[target].append(Trials(present, stacked))
    return dict(by_target)
