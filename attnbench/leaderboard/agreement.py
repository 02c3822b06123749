"""Who errs alike: error consistency between the methods of a contest, for plots and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attnbench.leaderboard.entries import Entry, decisions
from attnbench.leaderboard.standings import Contest, Entrant, Standings
from attnbench.statistics.consistency import Consistencies, consistencies

SIDES = {"present": True, "absent": False}
# As many as can be read in one picture; with all pairs the table would grow by the square.
MOST_COMPARED = 40


@dataclass(frozen=True)
class Agreement:
    """The consistency of every two methods of a contest.

    Attributes:
        trials: "present" or "absent", which images were compared.
        entrants: the rows and columns of `found`.
    """

    trials: str
    entrants: tuple[Entrant, ...]
    found: Consistencies


def agreements(
    contest: Contest, standing: Standings, entries: Mapping[Entrant, Sequence[Entry]]
) -> list[Agreement]:
    """For images with the target and without, of the methods of largest d' that have scores.

    Args:
        contest: one of the standing's.
        entries: the records of each entrant on it.
    """
    best = sorted(
        (row for row in standing.rows if contest in row.intervals),
        key=lambda row: -(row.cells[contest].d_prime or 0.0),
    )
    whole = [
        row.entrant
        for row in best
        if all(entry.reading is not None for entry in entries[row.entrant])
    ][:MOST_COMPARED]
    if len(whole) < 2:
        return []
    records = [entries[who] for who in whole]
    return [
        Agreement(trials, tuple(whole), consistencies(*decisions(records, present)))
        for trials, present in SIDES.items()
    ]
