"""Where the methods of a group of settings stand: tests, means and what a method lacks for these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from attnbench.leaderboard.comparable import Comparable
from attnbench.statistics.joint_means import Estimate, joint_means
from attnbench.statistics.ranking import LEVEL, Ranking, rank_methods

Verdict = Literal["above", "control", "not distinguished", "below", ""]
_VERDICTS: dict[int, Verdict] = {1: "above", 0: "not distinguished", -1: "below"}


@dataclass(frozen=True)
class Placement:
    """Where a method stands.

    Attributes:
        verdict: how its d_a compares with that of the control; empty if that was not tested.
        ranks: the best and the worst rank that the tests leave open; None if it was not tested.
        lacking: what it lacks to be compared with the others; empty if it is compared.
        episodes: how many it has of the episodes that the comparison needs.
        d_prime, d_a: means over the compared settings, in z units; None if it lacks something.
        difference: d_a minus that of the control, on the episodes that both have; None without any.
    """

    verdict: Verdict = ""
    ranks: tuple[int, int] | None = None
    lacking: str = "all tasks"
    episodes: int = 0
    d_prime: Estimate | None = None
    d_a: Estimate | None = None
    difference: Estimate | None = None

    @property
    def order(self) -> tuple[int, int, float]:
        """A key that orders placements from best to worst.

        Methods above the control come first, then all others that are compared, then the rest, those
        that have most first. Within these, the lower end of an interval decides: more noise lowers it.
        """
        if self.lacking:
            group, episodes = 2, -self.episodes
        else:
            group, episodes = (0 if self.verdict == "above" else 1), 0
        decisive = self.difference or self.d_a
        if decisive is None:
            return group, episodes, np.inf
        low = decisive.interval[0] if decisive.interval else decisive.value
        return group, episodes, -low


@dataclass(frozen=True)
class Placements:
    """Where m methods stand, and what was tested for it.

    Attributes:
        placements: one per method.
        tests: number of methods tested against the control.
        pairs: number of pairs of methods tested against each other.
        detectable: differences in d_a from the control that half of the tests find with a probability
            of 80 %: at 5 %, and at Holm's strictest level. None without tests.
    """

    placements: tuple[Placement, ...]
    tests: int = 0
    pairs: int = 0
    detectable: tuple[float, float] | None = None


def place_methods(comparable: Comparable, is_control: Sequence[bool]) -> Placements:
    """Place m methods.

    Args:
        comparable: the methods.
        is_control: whether each is the control, which is not tested against itself.
    """
    (complete,) = np.nonzero(comparable.complete)
    placements = [_incomplete(comparable, number) for number in range(len(is_control))]
    if not len(complete):
        return Placements(tuple(placements))
    tested = ~np.array(is_control)[complete]
    ranking = rank_methods(comparable.values("d_a"), comparable.control, tested)
    d_prime, d_a = (joint_means(comparable.by_target(name)) for name in ("d_prime", "d_a"))
    can_test = not np.isnan(d_a.errors).any()  # a single target says nothing about others
    for place, number in enumerate(complete.tolist()):
        best, worst = ranking.ranks[place].tolist()
        placements[number] = Placement(
            verdict=_verdict(ranking, place, is_control[number]) if can_test else "",
            ranks=(best, worst) if can_test else None,
            lacking="",
            episodes=comparable.episodes(number),
            d_prime=d_prime.estimate(place),
            d_a=d_a.estimate(place),
            difference=ranking.differences.estimate(place) if ranking.differences else None,
        )
    detectable = None
    if ranking.differences is not None and ranking.tests:
        smallest, strictest = (
            float(np.median(ranking.differences.detectable(level)[tested]))
            for level in (LEVEL, LEVEL / ranking.tests)
        )
        detectable = None if np.isnan(smallest) else (smallest, strictest)
    return Placements(tuple(placements), ranking.tests, ranking.pairs, detectable)


def _verdict(ranking: Ranking, place: int, is_control: bool) -> Verdict:
    if is_control:
        return "control"
    return _VERDICTS[int(ranking.verdicts[place])] if ranking.differences else ""


def _incomplete(comparable: Comparable, number: int) -> Placement:
    """Return the placement of a method by what it has."""
    difference = comparable.difference_of(number)
    return Placement(
        lacking=comparable.lacking(number),
        episodes=comparable.episodes(number),
        difference=None if difference is None else difference.estimate(0),
    )
