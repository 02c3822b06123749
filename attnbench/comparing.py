"""`attnbench compare`: is one method really better than another, on the same episodes and images?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from attnbench.errors import AttnbenchError
from attnbench.records.integrity import read_scores
from attnbench.records.record import Record
from attnbench.records.store import RecordStore
from attnbench.statistics.comparison import Difference, differences
from attnbench.statistics.consistency import Consistency, consistency
from attnbench.statistics.resampling import Trials, d_as, d_primes, observed, resampled


@dataclass(frozen=True)
class Pair:
    """Two submissions on one task: first - second.

    Attributes:
        d_prime, d_a: the paired differences; their p-values are corrected for all pairs of the task.
        present, absent: error consistency on images with the target, and on those without.
    """

    first: str
    second: str
    d_prime: Difference
    d_a: Difference
    present: Consistency
    absent: Consistency


@dataclass(frozen=True)
class TaskComparison:
    """What can be said of several submissions on one task, track and backbone.

    Attributes:
        episodes: how many targets and seeds they have in common.
        d_prime: the mean of each over these, by name.
    """

    track: str
    task: str
    backbone: str
    episodes: int
    d_prime: dict[str, float]
    pairs: tuple[Pair, ...]

    @property
    def conclusion(self) -> str:
        """In a sentence, what can and what cannot be concluded."""
        said = "; ".join(map(_said_of, self.pairs))
        return f"On {self.task} ({self.track}, {self.backbone}, {self.episodes} episodes) {said}."


def compare(
    submissions: Sequence[str],
    *,
    records: Path = Path("records"),
    track: str | None = None,
    task: str | None = None,
    backbone: str | None = None,
) -> list[TaskComparison]:
    """Compare submissions on every task, track and backbone that records have all of them on.

    Args:
        submissions: names, at least two.
        records: where records are kept.
        track, task, backbone: only these, by default all.

    Raises:
        AttnbenchError: where there is nothing to compare, or a record's scores cannot be used.
    """
    if len(submissions) < 2 or len(set(submissions)) < len(submissions):
        raise AttnbenchError("name two submissions or more, each once")
    if not records.is_dir():
        raise AttnbenchError(f"{records} is not a folder; --records says where records are kept")
    loaded, _ = RecordStore(records).load_all()
    wanted = {"track": track, "task": task, "backbone": backbone}
    groups: dict[tuple[str, ...], list[tuple[Path, Record]]] = defaultdict(list)
    for path, record in loaded:
        who = record.identity
        asked_for = all(each in (None, getattr(who, name)) for name, each in wanted.items())
        if who.submission in submissions and record.status == "ok" and asked_for:
            groups[who.track, who.task, who.backbone, who.task_sha256].append((path, record))
    found = [
        _compare_on_task(key, submissions, each)
        for key, each in sorted(groups.items())
        if {record.identity.submission for _, record in each} == set(submissions)
    ]
    if not found:
        raise AttnbenchError(
            f"{records} has no task with a whole record of each of {', '.join(submissions)}; "
            "make them with `attnbench evaluate`"
        )
    return found


def _compare_on_task(
    key: tuple[str, ...], submissions: Sequence[str], records: list[tuple[Path, Record]]
) -> TaskComparison:
    by_target = _trials(submissions, records)
    if not by_target:
        raise AttnbenchError(
            f"the records of {key[1]} ({key[0]}) have no episode in common: "
            "their seeds differ, or their images"
        )
    targets = list(by_target.values())
    found = observed(targets, d_primes)
    d_prime = differences(found, resampled(targets, d_primes))
    d_a = differences(observed(targets, d_as), resampled(targets, d_as))
    flat = [trials for seeds in targets for trials in seeds]
    present, absent = (
        np.concatenate([t.scores[:, t.present == side] > 0 for t in flat], axis=1)
        for side in (True, False)
    )
    pairs = tuple(
        Pair(
            submissions[sensitivity.first],
            submissions[sensitivity.second],
            sensitivity,
            area,
            consistency(present[sensitivity.first], present[sensitivity.second]),
            consistency(absent[sensitivity.first], absent[sensitivity.second]),
        )
        for sensitivity, area in zip(d_prime, d_a, strict=True)
    )
    track, task, backbone, _ = key
    return TaskComparison(
        track,
        task,
        backbone,
        episodes=len(flat),
        d_prime=dict(zip(submissions, map(float, found.mean(axis=0)), strict=True)),
        pairs=pairs,
    )


def _trials(
    submissions: Sequence[str], records: list[tuple[Path, Record]]
) -> dict[str, list[Trials]]:
    """The episodes that all have, by target: the same seed and the very same images."""
    episodes: dict[tuple[str, int, str], dict[str, pd.DataFrame]] = defaultdict(dict)
    for path, record in records:
        try:
            scores = read_scores(path, record)
        except ValueError as error:
            raise AttnbenchError(f"{path}: {error}") from None
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


def _said_of(pair: Pair) -> str:
    found = pair.d_prime
    by = f"{found.estimate:+.2f} d′ [{found.low:+.2f}, {found.high:+.2f}]"
    if not found.significant:
        return f"{pair.first} and {pair.second} cannot be told apart ({by})"
    better, worse = (pair.first, pair.second)[:: 1 if found.estimate > 0 else -1]
    if pair.d_a.significant and pair.d_a.estimate * found.estimate > 0:
        return f"{better} is better than {worse} ({by}, and in d_a too)"
    return f"{better} has the larger d′ than {worse} ({by}), which a shift of criterion may explain"
