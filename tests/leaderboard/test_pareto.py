"""The members of the Pareto front and their margins."""

from __future__ import annotations

from dataclasses import replace

from attnbench.leaderboard.pareto import CostPoint, pareto_front
from attnbench.leaderboard.pooling import Method


def point(name: str, d_prime: float, parameters: int, passes: float) -> CostPoint:
    return CostPoint(Method(name, "a" * 64, "cpu"), d_prime, parameters, passes, "a processor")


def test_the_front_has_the_methods_that_no_other_dominates() -> None:
    points = [
        point("cheap", 1.0, 1, 5.0),
        point("quick", 0.5, 900, 0.1),
        point("best", 3.0, 50, 9.0),
        point("dominated", 1.2, 50, 9.5),
        point("between", 1.5, 50, 9.0),
    ]
    front = pareto_front(points)
    # No other method costs as little as "cheap" or "quick"; "best" leads "between" by 1.5.
    margins = {member.point.method.submission: member.margin for member in front}
    assert margins == {"best": 1.5, "cheap": None, "quick": None}
    assert [member.point.d_prime for member in front] == [3.0, 1.0, 0.5]
    # A d' that drops by a little less than the margin keeps "best" on the front, a little more does
    # not.
    for drop, names in ((1.49, {"best", "cheap", "quick"}), (1.51, {"between", "cheap", "quick"})):
        dropped = [replace(p, d_prime=p.d_prime - drop * (p is points[2])) for p in points]
        assert {member.point.method.submission for member in pareto_front(dropped)} == names
    assert pareto_front([]) == ()
