"""Who gives as much for as little: the Pareto front of d', parameters and adaptation time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from attnbench.leaderboard.standings import Entrant, Standings
from attnbench.statistics.comparison import pareto_margins


@dataclass(frozen=True)
class Bid:
    """What an entrant gives, and for what.

    Attributes:
        parameters: added and changed, the largest number.
        passes: of adaptation, which compare across machines; taken on `device`.
    """

    entrant: Entrant
    d_prime: float
    parameters: int
    passes: float
    device: str


@dataclass(frozen=True)
class Lead:
    """An entrant on the front.

    Attributes:
        margin: how much smaller its d' could be before one that costs no more dominates it; None
            where none costs as little.
    """

    bid: Bid
    margin: float | None


def front(bids: Iterable[Bid]) -> tuple[Lead, ...]:
    """Those that none dominates: none has as large a d' for as few parameters and as few passes.

    The largest d' comes first. Costs are not weighed against one another.
    """
    ordered = sorted(bids, key=lambda bid: (-bid.d_prime, bid.entrant))
    costs = np.array([(bid.parameters, bid.passes) for bid in ordered]).reshape(-1, 2)
    margins = pareto_margins(np.array([bid.d_prime for bid in ordered]), costs)
    return tuple(
        Lead(bid, float(margin) if np.isfinite(margin) else None)
        for bid, margin in zip(ordered, margins, strict=True)
        if margin > 0
    )


def front_of_track(found: Standings) -> tuple[Lead, ...]:
    """The front of the entrants that have figures and times of all contests of a track."""
    return front(
        Bid(row.entrant, row.d_prime, row.costs.parameters[1], passes, row.costs.device)
        for row in found.rows
        if row.d_prime is not None
        and len(row.intervals) == len(found.contests)
        and row.costs is not None
        and (passes := row.costs.times.passes) is not None
    )
