"""Which methods can be told apart, and what they cost: pure functions of estimates and replicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr

from attnbench.statistics.intervals import degrees_of_freedom, mean_interval
from attnbench.statistics.resampling import Floats


@dataclass(frozen=True)
class Difference:
    """A paired difference, first - second, with its interval and p-values.

    Attributes:
        first, second: which methods, by their index.
        low, high: 95 %, see `attnbench.statistics.intervals.mean_interval`.
        p: two-sided, see `two_sided_p`; `p_holm` corrected for all pairs that were compared.
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


def differences(values: Floats, replicates: Floats) -> list[Difference]:
    """All pairs of methods.

    Args:
        values: `[n, m]`, a figure of each method on each target.
        replicates: `[r, m]`, its means over targets, drawn together
            (`attnbench.statistics.resampling.resampled`).
    """
    pairs = np.array(list(combinations(range(values.shape[1]), 2))).reshape(-1, 2)
    apart = (values[:, pairs[:, 0]] - values[:, pairs[:, 1]]).T
    errors = (replicates[:, pairs[:, 0]] - replicates[:, pairs[:, 1]]).std(axis=0)
    means, sizes = apart.mean(axis=1), np.array([len(values)])
    with np.errstate(invalid="ignore"):
        variances = apart.var(axis=1, ddof=min(1, len(values) - 1)) / len(values)
    ps = two_sided_p(means, errors, variances[None], sizes)
    return [
        Difference(
            int(a),
            int(b),
            float(mean),
            *mean_interval([each], error=float(error)),
            float(p),
            float(corrected),
        )
        for (a, b), mean, each, error, p, corrected in zip(
            pairs, means, apart, errors, ps, holm(ps), strict=True
        )
    ]


def two_sided_p(
    estimates: Floats, errors: Floats, variances: Floats, sizes: NDArray[np.int64]
) -> Floats:
    """p of paired differences: by Student's t over targets, and never below the bootstrap's.

    How much few targets vary is itself hardly known, which t allows for and a normal distribution does
    not. On the other hand a few targets may differ by chance less than they must; the bootstrap, which
    draws images too, knows. Without an error an estimate of 0 has p = 1, another one p = 0.

    Args:
        estimates: `[...]`, means over targets, or over several tasks.
        errors: `[...]`, their standard errors by a bootstrap over targets and images.
        variances: `[g, ...]`, what each task's targets say of an estimate's variance; 0 where it has a
            single one.
        sizes: `[g]`, how many targets each task has.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        by_bootstrap = 2 * ndtr(-np.abs(estimates) / errors)
        spread = np.sqrt(variances.sum(axis=0))
        by_targets = 2 * stdtr(degrees_of_freedom(variances, sizes), -np.abs(estimates) / spread)
    found: Floats = np.fmax(np.where(np.isnan(by_bootstrap), 1.0, by_bootstrap), by_targets)
    return found


def holm(ps: Floats) -> Floats:
    """Holm's step-down correction of p-values `[n]` (Scandinavian Journal of Statistics 6, 1979)."""
    order = np.argsort(ps, kind="stable")
    stepped = np.asarray(ps)[order] * np.arange(len(ps), 0, -1)
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return corrected


def shared_ranks(estimates: Floats, covariances: Floats, by_target: Sequence[Floats]) -> list[int]:
    """Ranks from 1: a method's is one more than the number of those that are surely better.

    What cannot be told apart from the best shares rank 1. Two methods are compared by the mean of their
    differences over the tasks that both have, at 5 % after Holm's correction for all pairs.

    Args:
        estimates: `[tasks, m]`, means over targets, NaN where a method does not have a task.
        covariances: `[tasks, m, m]` of the estimates' errors by a bootstrap over targets and images,
            anything where one does not have it.
        by_target: of each task what the estimates are means of, `[n, m]`, NaN where a method does not
            have a target.
    """
    has = ~np.isnan(estimates)
    both: NDArray[np.bool_] = has[:, :, None] & has[:, None, :]
    count = np.maximum(both.sum(axis=0), 1)
    apart = np.nan_to_num(estimates)[:, :, None] - np.nan_to_num(estimates)[:, None, :]
    mean = (apart * both).sum(axis=0) / count
    error = np.sqrt(np.where(both, _spread(covariances), 0).sum(axis=0)) / count
    variances = np.array([_of_paired_means(each) for each in by_target])
    variances = np.where(both, variances, 0) / count**2
    sizes = np.array([len(each) for each in by_target])
    first, second = np.triu_indices(estimates.shape[1], 1)
    ps = two_sided_p(mean[first, second], error[first, second], variances[:, first, second], sizes)
    surely = (holm(ps) < 0.05) & (both.sum(axis=0) > 0)[first, second]
    better = np.where(mean[first, second] > 0, second, first)[surely]
    return [1 + int(n) for n in np.bincount(better, minlength=estimates.shape[1])]


def _of_paired_means(values: Floats) -> Floats:
    """The variance of the mean over targets of each difference, `[m, m]`; 0 where none can be told."""
    number, methods = values.shape
    if number < 2:
        return np.zeros((methods, methods))
    whole: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=0))
    covariances = np.cov(np.where(whole, values, 0), rowvar=False).reshape(methods, methods)
    return np.where(whole[:, None] & whole, _spread(covariances) / number, 0)


def _spread(covariances: Floats) -> Floats:
    """The variance of each difference, `[..., m, m]`."""
    own = np.diagonal(covariances, axis1=-2, axis2=-1)
    found: Floats = np.maximum(own[..., :, None] + own[..., None, :] - 2 * covariances, 0)
    return found


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
