"""Which methods can be told apart, and what they cost: pure functions of estimates and replicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from attnbench.statistics.intervals import interval
from attnbench.statistics.resampling import Floats


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
    found = np.array([estimates[a] - estimates[b] for a, b in pairs])
    ps = two_sided_p(found, np.array([each.std() for each in drawn]))
    return [
        Difference(a, b, float(estimate), *interval(each), float(p), float(corrected))
        for (a, b), estimate, each, p, corrected in zip(
            pairs, found, drawn, ps, holm(ps), strict=True
        )
    ]


def two_sided_p(estimates: Floats, errors: Floats) -> Floats:
    """p = 2 Phi(-|estimate| / error) of estimates whose standard errors a bootstrap has given.

    The replicates' own tail cannot be smaller than one of them, too coarse for many pairs. Without an
    error an estimate of 0 has p = 1, another one p = 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 2 * ndtr(-np.abs(estimates) / errors)
    return np.where(np.isnan(found), 1.0, found)


def holm(ps: Floats) -> Floats:
    """Holm's step-down correction of p-values `[n]` (Scandinavian Journal of Statistics 6, 1979)."""
    order = np.argsort(ps, kind="stable")
    stepped = np.asarray(ps)[order] * np.arange(len(ps), 0, -1)
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return corrected


def shared_ranks(estimates: Floats, covariances: Floats) -> list[int]:
    """Ranks from 1: a method's is one more than the number of those that are surely better.

    What cannot be told apart from the best shares rank 1. Two methods are compared by the mean of their
    differences over the tasks that both have, at 5 % after Holm's correction for all pairs.

    Args:
        estimates: `[tasks, m]`, NaN where a method does not have a task.
        covariances: `[tasks, m, m]` of the estimates' errors, anything where one does not have it.
    """
    has = ~np.isnan(estimates)
    both: NDArray[np.bool_] = has[:, :, None] & has[:, None, :]
    count = np.maximum(both.sum(axis=0), 1)
    apart = np.nan_to_num(estimates)[:, :, None] - np.nan_to_num(estimates)[:, None, :]
    mean = (apart * both).sum(axis=0) / count
    own = np.diagonal(covariances, axis1=1, axis2=2)
    spread = own[:, :, None] + own[:, None, :] - 2 * covariances
    error = np.sqrt(np.where(both, np.maximum(spread, 0), 0).sum(axis=0)) / count
    first, second = np.triu_indices(estimates.shape[1], 1)
    ps = two_sided_p(mean[first, second], error[first, second])
    surely = (holm(ps) < 0.05) & (both.sum(axis=0) > 0)[first, second]
    better = np.where(mean[first, second] > 0, second, first)[surely]
    return [1 + int(n) for n in np.bincount(better, minlength=estimates.shape[1])]


def mean_ranks(tasks: Sequence[Floats]) -> Floats:
    """Mean ranks over tasks, from 1 for the largest, ties sharing the mean of theirs.

    Args:
        tasks: for each task a figure `[..., m]` of the same methods; -inf ranks last.

    Returns:
        `[..., m]`.
    """
    return np.asarray(np.mean([_ranks(each) for each in tasks], axis=0))


def _ranks(values: Floats) -> Floats:
    rows = values.reshape(-1, values.shape[-1])
    ranks = np.empty(rows.shape)
    # By sorting: a table of who is above whom has the square of the methods in each of the rows.
    for number, row in enumerate(rows):
        ordered = np.sort(row)
        upto = np.searchsorted(ordered, row, "right")
        level = upto - np.searchsorted(ordered, row, "left")
        ranks[number] = len(row) - upto + (level + 1) / 2
    return ranks.reshape(values.shape)


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
