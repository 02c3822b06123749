"""The Pareto front of d', parameters and adaptation time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from attnbench.leaderboard.pooling import Method
from attnbench.leaderboard.standings import Standings
from attnbench.statistics.comparison import pareto_margins


@dataclass(frozen=True)
class CostPoint:
    """A method's d' and its costs.

    Attributes:
        method: the method.
        d_prime: in z units.
        parameters: the largest number added and changed together.
        passes: adaptation time in multiples of a forward pass, which compares across machines.
        device: the device that the passes were measured on.
    """

    method: Method
    d_prime: float
    parameters: int
    passes: float
    device: str


@dataclass(frozen=True)
class ParetoMember:
    """A method on the Pareto front.

    Attributes:
        point: the method's d' and costs.
        margin: how far its d' could drop before a method that costs no more dominates it; None if no
            other method costs as little.
    """

    point: CostPoint
    margin: float | None


def pareto_front(points: Iterable[CostPoint]) -> tuple[ParetoMember, ...]:
    """Return the members of the Pareto front, the largest d' first.

    No other method has as large a d' with as few parameters and as few passes. Costs are not weighted
    against each other.
    """
    ordered = sorted(points, key=lambda point: (-point.d_prime, point.method))
    costs = np.array([(point.parameters, point.passes) for point in ordered]).reshape(-1, 2)
    margins = pareto_margins(np.array([point.d_prime for point in ordered]), costs)
    return tuple(
        ParetoMember(point, float(margin) if np.isfinite(margin) else None)
        for point, margin in zip(ordered, margins, strict=True)
        if margin > 0
    )


def pareto_front_of_track(standings: Standings) -> tuple[ParetoMember, ...]:
    """Return the front of the methods with a d' in every setting of the track, and with times."""
    return pareto_front(
        CostPoint(row.method, row.d_prime, row.costs.parameters[1], passes, row.costs.device)
        for row in standings.rows
        if row.d_prime is not None
        and len(row.d_prime_intervals) == len(standings.settings)
        and row.costs is not None
        and (passes := row.costs.times.passes) is not None
    )
