"""The members of the Pareto front and their margins."""

from __future__ import annotations

import numpy as np
import pytest

from attnbench.leaderboard.pareto import CostPoint, pareto_front
from attnbench.leaderboard.pooling import Method
from attnbench.statistics.intervals import Floats

POINTS = [
    CostPoint(Method(name, "a" * 64, "cpu"), parameters, passes, "a processor")
    for name, parameters, passes in (
        ("cheap", 1, 5.0),
        ("quick", 900, 0.1),
        ("best", 50, 9.0),
        ("dominated", 50, 9.5),
        ("between", 50, 9.0),
    )
]
D_A = np.array([1.0, 0.5, 3.0, 1.2, 1.5])


def on_targets(d_a: Floats, spread: float = 0.0) -> Floats:
    """Return values on ten targets of one task, `[1, 10, m]`, with these means."""
    noise = np.random.default_rng(0).normal(0, 1, (1, 10, len(d_a)))
    return d_a + spread * (noise - noise.mean(axis=1, keepdims=True))


def test_the_front_has_the_methods_that_no_other_dominates() -> None:
    front = pareto_front(POINTS, on_targets(D_A + 1), on_targets(D_A))
    # No other method costs as little as "cheap" or "quick"; "best" leads "between" by 1.5.
    margins = {member.point.method.submission: member.margin for member in front}
    assert margins == {"best": pytest.approx(1.5), "cheap": None, "quick": None}
    assert [member.d_a for member in front] == pytest.approx([3.0, 1.0, 0.5])
    assert [member.d_prime for member in front] == pytest.approx([4.0, 2.0, 1.5])
    # A d_a that drops by a little less than the margin keeps "best" on the front, a little more does
    # not.
    for drop, names in ((1.49, {"best", "cheap", "quick"}), (1.51, {"between", "cheap", "quick"})):
        dropped = on_targets(D_A - drop * (np.arange(5) == 2))
        front = pareto_front(POINTS, dropped, dropped)
        assert {member.point.method.submission for member in front} == names
    nothing = np.empty((1, 10, 0))
    assert pareto_front([], nothing, nothing) == ()


def test_a_margin_has_an_interval_over_targets() -> None:
    values = on_targets(D_A, spread=0.3)
    (best, *_) = pareto_front(POINTS, values, values)
    assert best.margin == pytest.approx(1.5) and best.interval is not None
    low, high = best.interval
    # The margin is the lead over "between", whose standard error the bootstrap reproduces.
    error = (values[0, :, 2] - values[0, :, 4]).std() / np.sqrt(10)
    assert (high - low) / 3.92 == pytest.approx(error, rel=0.15)
    (alone, *_) = pareto_front(POINTS, values[:, :1], values[:, :1])
    assert alone.interval is None  # one target says nothing about others
