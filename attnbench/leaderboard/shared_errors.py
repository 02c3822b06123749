"""The test images of a setting that all methods get wrong, and those that divide the methods."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnbench.leaderboard.entries import Entry
from attnbench.leaderboard.pooling import Method

# With fewer methods, "all of them" says little.
_LEAST_METHODS = 3
# How many images of each kind are named.
_SHOWN = 12
# An image divides the methods if at least this share of them, and at most the rest, get it wrong.
_DIVIDED = 0.25


@dataclass(frozen=True)
class JudgedImage:
    """A test image and the number of methods that get it wrong.

    Attributes:
        target: the target of the episode.
        name: its name in the scores.
        present: whether it has the target. If so, an error is a miss, else a false alarm.
        wrong: the number of methods.
    """

    target: str
    name: str
    present: bool
    wrong: int


@dataclass(frozen=True)
class SharedErrors:
    """What the methods of a setting get wrong on the same test images.

    Attributes:
        methods: the number of methods.
        positives, negatives: the number of test images with the target, and without it.
        missed_by_all: images with the target that all methods miss.
        false_alarms_of_all: images without it that all methods call present.
        right_for_all: images that no method gets wrong.
        hardest: some of the images that all methods get wrong, spread over targets.
        dividing: some of those that about half of the methods get wrong, spread over targets.
    """

    methods: int
    positives: int
    negatives: int
    missed_by_all: int
    false_alarms_of_all: int
    right_for_all: int
    hardest: tuple[JudgedImage, ...]
    dividing: tuple[JudgedImage, ...]


def shared_errors(entries: Mapping[Method, Sequence[Entry]]) -> SharedErrors | None:
    """Return what the methods of a setting get wrong together.

    Args:
        entries: the records of each method. The images are those of the seed that most methods have
            scores for; of several such seeds, the first.

    Returns:
        None if fewer than three methods have scores for the same images.
    """
    by_images: dict[str, list[Entry]] = defaultdict(list)
    for of_method in entries.values():
        for entry in of_method:
            if entry.scores is not None:
                by_images[entry.scores.images].append(entry)
    groups = sorted(by_images.values(), key=lambda group: group[0].record.identity.seed)
    group = max(groups, key=len, default=[])
    summaries = [entry.scores for entry in group if entry.scores is not None]
    if len(summaries) < _LEAST_METHODS:
        return None
    present = summaries[0].present
    wrong = np.stack([each.decisions != present for each in summaries]).sum(axis=0)
    count = len(summaries)
    by_all = wrong == count
    divided = (wrong >= _DIVIDED * count) & (wrong <= (1 - _DIVIDED) * count)
    targets, names = _named(group[0])

    def judged(rows: NDArray[np.int64]) -> tuple[JudgedImage, ...]:
        return tuple(
            JudgedImage(targets[row], names[row], bool(present[row]), int(wrong[row]))
            for row in _spread(rows, targets)[:_SHOWN].tolist()
        )

    nearest_to_half = np.argsort(np.abs(wrong - count / 2), kind="stable")
    return SharedErrors(
        methods=count,
        positives=int(present.sum()),
        negatives=int((~present).sum()),
        missed_by_all=int((by_all & present).sum()),
        false_alarms_of_all=int((by_all & ~present).sum()),
        right_for_all=int((wrong == 0).sum()),
        hardest=judged(np.flatnonzero(by_all)),
        dividing=judged(nearest_to_half[divided[nearest_to_half]]),
    )


def _named(entry: Entry) -> tuple[list[str], list[str]]:
    """Return the target and the name of each test image, in the order of the entry's summary."""
    table = entry.read_scores()
    targets = table["target"].to_numpy()
    order = np.argsort(targets, kind="stable")
    return targets[order].tolist(), table["image"].to_numpy()[order].tolist()


def _spread(rows: NDArray[np.int64], targets: Sequence[str]) -> NDArray[np.int64]:
    """Return rows so that each target's first comes before any target's second, and so on."""
    seen: dict[str, int] = defaultdict(int)
    turns = []
    for row in rows.tolist():
        turns.append(seen[targets[row]])
        seen[targets[row]] += 1
    return rows[np.argsort(turns, kind="stable")]
