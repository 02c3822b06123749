"""Which methods can be told apart, and what they cost: pure functions of estimates and replicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnbench.statistics.resampling import Floats, interval


@dataclass(frozen=True)
class Difference:
    """A paired difference, first - second, with its interval and p-values.

    Attributes:
        first, second: which methods, by their index.
        p: two-sided, from the bootstrap; `p_holm` corrected for all pairs that were compared.
    """

    first: int
    second: int
    estimate: float
    low: float
    high: float
    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """Whether the methods can be told apart at 5 %, all pairs considered."""
        return self.p_holm < 0.05


def differences(estimates: Floats, replicates: Floats) -> list[Difference]:
    """All pairs of methods.

    Args:
        estimates: `[m]`, a figure of each method.
        replicates: `[r, m]`, drawn together (`attnbench.statistics.resampling.resampled`).
    """
    pairs = list(combinations(range(len(estimates)), 2))
    drawn = [replicates[:, a] - replicates[:, b] for a, b in pairs]
    ps = [two_sided_p(each) for each in drawn]
    return [
        Difference(a, b, float(estimates[a] - estimates[b]), *interval(each), p, corrected)
        for (a, b), each, p, corrected in zip(pairs, drawn, ps, holm(ps), strict=True)
    ]


def two_sided_p(replicates: Floats) -> float:
    """How surely bootstrap replicates `[r]` of a difference lie on one side of 0.

    p = 2 min(P(<= 0), P(>= 0)), the difference itself counted as one more replicate on either side
    (Davison & Hinkley 1997, 4.2.3), so that p is never 0.
    """
    sides = min(int((replicates <= 0).sum()), int((replicates >= 0).sum()))
    return min(1.0, 2 * (sides + 1) / (len(replicates) + 1))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979), in the order given."""
    order = np.argsort(ps, kind="stable")
    stepped = np.array(ps, dtype=float)[order] * np.arange(len(ps), 0, -1)
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return [float(each) for each in corrected]


def shared_ranks(methods: int, found: Sequence[Difference]) -> list[int]:
    """Ranks from 1: a method's is one more than the number of those that are surely better.

    What cannot be told apart from the best shares rank 1.

    Args:
        methods: how many there are.
        found: all their pairs.
    """
    better = [0] * methods
    for each in found:
        if each.significant:
            better[each.second if each.estimate > 0 else each.first] += 1
    return [1 + count for count in better]


def mean_ranks(tasks: Sequence[Floats]) -> Floats:
    """Mean ranks over tasks, from 1 for the largest, ties sharing the mean of theirs.

    Args:
        tasks: for each task a figure `[..., m]` of the same methods; -inf ranks last.

    Returns:
        `[..., m]`.
    """
    return np.asarray(np.mean([_ranks(each) for each in tasks], axis=0))


def _ranks(values: Floats) -> Floats:
    above = (values[..., None, :] > values[..., :, None]).sum(axis=-1)
    level = (values[..., None, :] == values[..., :, None]).sum(axis=-1)
    ranks: Floats = above + (level + 1) / 2
    return ranks


def pareto_margins(benefit: NDArray[Any], costs: NDArray[Any]) -> Floats:
    """By how much each method leads all that cost no more than it does, `[m]`.

    Above 0 a method is on the Pareto front: none gives as much for as little. Infinite where no other
    costs as little; of two equals neither is above 0.

    Args:
        benefit: `[m]`, more is better.
        costs: `[m, k]`, less is better.
    """
    margins = np.full(len(benefit), np.inf)
    for number in range(len(benefit)):
        as_cheap = (costs <= costs[number]).all(axis=1)
        as_cheap[number] = False
        if as_cheap.any():
            margins[number] = benefit[number] - benefit[as_cheap].max()
    return margins
