"""`attnbench compare`: is one method really better than another, on the same episodes and images?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from attnbench.commands.records_to_compare import Setting, records_to_compare
from attnbench.errors import AttnbenchError
from attnbench.records.folders import StoredRecord, folders_to_read
from attnbench.records.integrity import Responses, responses_by_target
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

_ORDER = [("target", "ascending"), ("image", "ascending")]


def compare(
    submissions: Sequence[str],
    *,
    records: Path | Sequence[Path] | None = None,
    track: str | None = None,
    task: str | None = None,
    backbone: str | None = None,
    report: Callable[[str, int, int], None] = lambda setting, done, total: None,
) -> list[TaskComparison]:
    """Compare submissions on every task, track and backbone on which all of them have records.

    Args:
        submissions: at least two names.
        records: the folder or folders of records; by default `records` and `published`. In each
            setting, a submission is represented by its version in the first folder that has one.
        track, task, backbone: the only track, task or backbone to compare on. By default all.
        report: called before each comparison with its task and track, and with the numbers of
            comparisons done and in total.

    Returns:
        A comparison for each task, track and backbone.

    Raises:
        AttnbenchError: if there is nothing to compare, or the scores of a record cannot be used.
    """
    if len(submissions) < 2 or len(set(submissions)) < len(submissions):
        raise AttnbenchError("name at least two different submissions")
    wanted = {"track": track, "task": task, "backbone": backbone}
    chosen = records_to_compare(submissions, folders_to_read(records), wanted)
    comparisons: list[TaskComparison] = []
    for setting, stored in chosen.items():
        track_name, task_name, *_ = setting
        report(f"{task_name} ({track_name})", len(comparisons), len(chosen))
        comparisons.append(_compare_on_task(setting, submissions, stored))
    return comparisons


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
    d_prime_values, d_a_values = (statistic_by_target(targets, s) for s in (d_primes, d_as))
    d_prime_replicates, d_a_replicates = bootstrap_means(targets, (d_primes, d_as))
    d_prime = differences(d_prime_values, d_prime_replicates)
    d_a = differences(d_a_values, d_a_replicates)
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
    means = map(float, d_prime_values.mean(axis=0))
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
    episodes: dict[tuple[str, int, str, bytes], dict[str, Responses]] = defaultdict(dict)
    for stored in records:
        path, record = stored.path, stored.record
        try:
            # Records need not keep images in the same order.
            scores = read_scores(path, record).sort_by(_ORDER)
        except ValueError as error:
            raise AttnbenchError(f"{path}: {error}") from None
        responses = responses_by_target(scores)
        for episode in record.episodes:
            found = responses.get(episode.target)
            if found is None or found.present.all() or not found.present.any():
                raise AttnbenchError(
                    f"{path}: scores of positives or of negatives of {episode.target} are missing"
                )
            seed, classes = record.identity.seed, found.present.tobytes()
            key = episode.target, seed, episode.images_sha256, classes
            episodes[key][record.identity.submission] = found
    by_target: dict[str, list[Trials]] = defaultdict(list)
    for (target, *_), by_name in sorted(episodes.items()):
        if by_name.keys() == set(submissions):
            scores = np.stack([by_name[name].scores for name in submissions])
            by_target[target].append(Trials(by_name[submissions[0]].present, scores))
    return dict(by_target)
