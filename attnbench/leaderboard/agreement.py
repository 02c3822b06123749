"""Error consistency between the methods of a setting, for plots and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from attnbench.leaderboard.entries import Entry
from attnbench.leaderboard.pooling import Method, Setting
from attnbench.leaderboard.score_summary import Bools
from attnbench.leaderboard.standings import Standings
from attnbench.statistics.consistency import ConsistencyMatrix, consistency_matrix

# Whether the compared images have the target.
_TRIALS = {"present": True, "absent": False}
# As many as are legible in one plot. The table has every pair, so it grows with the square.
_MOST_METHODS = 40


@dataclass(frozen=True)
class Agreement:
    """The error consistency of every two methods of a setting, on the images of one class.

    Attributes:
        trials: "present" or "absent": images with the target, or without it.
        methods: the rows and columns of the matrix.
        matrix: Cohen's kappa with its intervals.
    """

    trials: str
    methods: tuple[Method, ...]
    matrix: ConsistencyMatrix


def agreements(
    setting: Setting, standings: Standings, entries: Mapping[Method, Sequence[Entry]]
) -> list[Agreement]:
    """Return the agreement on images with the target, then on those without it.

    Only methods with the scores of all their records are compared, at most the 40 with the largest
    d'.

    Args:
        setting: a setting of the standings.
        standings: of one track.
        entries: each method's records in this setting.

    Returns:
        An empty list if fewer than two methods have scores.
    """
    by_d_prime = sorted(
        (row for row in standings.rows if setting in row.d_prime_intervals),
        key=lambda row: -(row.results[setting].d_prime or 0.0),
    )
    methods = [
        row.method
        for row in by_d_prime
        if all(entry.scores is not None for entry in entries[row.method])
    ][:_MOST_METHODS]
    if len(methods) < 2:
        return []
    by_method = [entries[method] for method in methods]
    return [
        Agreement(trials, tuple(methods), consistency_matrix(*_decisions(by_method, present)))
        for trials, present in _TRIALS.items()
    ]


def _decisions(by_method: Sequence[Sequence[Entry]], present: bool) -> tuple[Bools, Bools]:
    """Return the decisions of m methods on one setting's images of one class.

    Args:
        by_method: the records of each method.
        present: whether to return decisions on images with the target or without it.

    Returns:
        Two of bool `[m, images]`: whether the method called the image present, and whether it has a
        decision for it.
    """
    summaries = {
        entry.scores.images: entry.scores
        for entries in by_method
        for entry in entries
        if entry.scores is not None
    }
    of_class: dict[str, Bools] = {}
    starts, total = {}, 0
    for images, summary in sorted(summaries.items()):
        of_class[images] = summary.present if present else ~summary.present
        starts[images] = total
        total += int(of_class[images].sum())
    decisions = np.zeros((len(by_method), total), bool)
    decided = np.zeros((len(by_method), total), bool)
    for number, entries in enumerate(by_method):
        for entry in entries:
            if entry.scores is not None:
                selected, start = of_class[entry.scores.images], starts[entry.scores.images]
                columns = slice(start, start + int(selected.sum()))
                decisions[number, columns] = entry.scores.decisions[selected]
                decided[number, columns] = True
    return decisions, decided
