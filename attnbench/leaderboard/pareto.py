"""The Pareto front of d_a, parameters and adaptation time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attnbench.leaderboard.pooling import Method
from attnbench.statistics.intervals import Floats, Interval, percentile_interval
from attnbench.statistics.joint_means import bootstrap_joint_means, joint_means
from attnbench.statistics.ranking import pareto_margins


@dataclass(frozen=True)
class CostPoint:
    """What a method costs.

    Attributes:
        method: the method.
        parameters: the largest number added and changed together.
        passes: adaptation time in multiples of a forward pass, which compares across machines.
        device: the device that the passes were measured on.
    """

    method: Method
    parameters: int
    passes: float
    device: str


@dataclass(frozen=True)
class ParetoMember:
    """A method on the Pareto front.

    Attributes:
        point: the method and its costs.
        d_prime, d_a: means over settings of means over targets, in z units.
        margin: how far its d_a could drop before a method that costs no more dominates it; None if no
            other method costs as little.
        interval: 95 % bootstrap interval of the margin over targets. If it reaches below 0, other
            targets may put the method off the front. None without a margin, and with a single target.
    """

    point: CostPoint
    d_prime: float
    d_a: float
    margin: float | None
    interval: Interval | None


def pareto_front(
    points: Sequence[CostPoint], d_prime: Floats, d_a: Floats
) -> tuple[ParetoMember, ...]:
    """Return the members of the Pareto front, the largest d_a first.

    No other method has as large a d_a with as few parameters and as few passes. Costs are not weighted
    against each other.

    Args:
        points: the costs of m methods.
        d_prime, d_a: float `[settings, targets, m]`, NaN where a setting does not have the target.
    """
    if not points:
        return ()
    joint = joint_means(d_a)
    means, d_primes = joint.estimates, joint_means(d_prime).estimates
    costs = np.array([(point.parameters, point.passes) for point in points])
    margins = pareto_margins(means, costs)
    replicates = pareto_margins(bootstrap_joint_means(d_a), costs)
    members = []
    for n in np.flatnonzero(margins > 0).tolist():
        has_margin = bool(np.isfinite(margins[n]))
        has_interval = has_margin and not np.isnan(joint.errors[n])
        margin = float(margins[n]) if has_margin else None
        interval = percentile_interval(replicates[:, n]) if has_interval else None
        members.append(
            ParetoMember(points[n], float(d_primes[n]), float(means[n]), margin, interval)
        )
    return tuple(sorted(members, key=lambda member: (-member.d_a, member.point.method)))
