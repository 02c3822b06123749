"""Significance tests, ranks and Pareto margins: pure functions of estimates and replicates."""

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
        first, second: the indices of the two methods.
        estimate: the mean difference over targets.
        low, high: its 95 % interval (`attnbench.statistics.intervals.mean_interval`).
        p: two-sided p-value (`two_sided_p`).
        p_holm: p with Holm's correction for all compared pairs.
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
        """Whether the difference is significant at 5 % after correction for all pairs."""
        return self.p_holm < 0.05


def differences(values: Floats, replicates: Floats) -> list[Difference]:
    """Return the paired differences of all pairs of methods.

    Args:
        values: float `[n, m]`, a statistic of each method on each target.
        replicates: float `[r, m]`, bootstrap replicates of its mean over targets, with targets and
            images shared by all methods (`attnbench.statistics.resampling.bootstrap_means`).
    """
    pairs = np.array(list(combinations(range(values.shape[1]), 2))).reshape(-1, 2)
    by_pair = (values[:, pairs[:, 0]] - values[:, pairs[:, 1]]).T
    errors = (replicates[:, pairs[:, 0]] - replicates[:, pairs[:, 1]]).std(axis=0)
    means, sizes = by_pair.mean(axis=1), np.array([len(values)])
    with np.errstate(invalid="ignore"):
        variances = by_pair.var(axis=1, ddof=min(1, len(values) - 1)) / len(values)
    ps = two_sided_p(means, errors, variances[None], sizes)
    return [
        Difference(
            int(a),
            int(b),
            float(mean),
            *mean_interval([by_target], error=float(error)),
            float(p),
            float(corrected),
        )
        for (a, b), mean, by_target, error, p, corrected in zip(
            pairs, means, by_pair, errors, ps, holm(ps), strict=True
        )
    ]


def two_sided_p(
    estimates: Floats, errors: Floats, variances: Floats, sizes: NDArray[np.int64]
) -> Floats:
    """Return p-values of paired differences: Student's t over targets, or the bootstrap's if larger.

    The variance between few targets is itself uncertain, which t allows for and a normal distribution
    does not. Conversely, few targets can vary less than they should by chance. The bootstrap also
    draws images, so its p-value is a lower bound. If the error is 0, an estimate of 0 has p = 1 and
    any other estimate p = 0.

    Args:
        estimates: float `[...]`, mean differences over targets or over several tasks.
        errors: float `[...]`, their standard errors from a bootstrap over targets and images.
        variances: float `[g, ...]`, each task's part of an estimate's variance between targets; 0 for
            a task with a single target.
        sizes: int `[g]`, number of targets of each task.

    Returns:
        float `[...]`.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        by_bootstrap = 2 * ndtr(-np.abs(estimates) / errors)
        spread = np.sqrt(variances.sum(axis=0))
        by_targets = 2 * stdtr(degrees_of_freedom(variances, sizes), -np.abs(estimates) / spread)
    # fmax ignores the NaN of `by_targets` where there is no variance between targets.
    ps: Floats = np.fmax(np.where(np.isnan(by_bootstrap), 1.0, by_bootstrap), by_targets)
    return ps


def holm(ps: Floats) -> Floats:
    """Return p-values `[n]` with Holm's step-down correction (Scand. J. Statist. 6, 1979)."""
    order = np.argsort(ps, kind="stable")
    stepped = np.asarray(ps)[order] * np.arange(len(ps), 0, -1)
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return corrected


def shared_ranks(estimates: Floats, covariances: Floats, by_target: Sequence[Floats]) -> list[int]:
    """Return each method's rank: one more than the number of significantly better methods.

    Methods that could not be distinguished from the best share rank 1. Two methods are compared by
    their mean difference over the tasks that both have, at 5 % after Holm's correction for all pairs.

    Args:
        estimates: float `[tasks, m]`, means over targets, NaN if a method does not have the task.
        covariances: float `[tasks, m, m]` of the estimates' errors, from a bootstrap over targets and
            images. Entries of a method that does not have the task are ignored.
        by_target: for each task the values `[n, m]` that the estimates average, NaN if a method does
            not have the target.
    """
    has_task = ~np.isnan(estimates)
    shared: NDArray[np.bool_] = has_task[:, :, None] & has_task[:, None, :]
    count = np.maximum(shared.sum(axis=0), 1)
    difference = np.nan_to_num(estimates)[:, :, None] - np.nan_to_num(estimates)[:, None, :]
    mean = (difference * shared).sum(axis=0) / count
    error = np.sqrt(np.where(shared, _difference_variances(covariances), 0).sum(axis=0)) / count
    variances = np.array([_mean_variances(values) for values in by_target])
    variances = np.where(shared, variances, 0) / count**2
    sizes = np.array([len(values) for values in by_target])
    first, second = np.triu_indices(estimates.shape[1], 1)
    ps = two_sided_p(mean[first, second], error[first, second], variances[:, first, second], sizes)
    significant = (holm(ps) < 0.05) & (shared.sum(axis=0) > 0)[first, second]
    worse = np.where(mean[first, second] > 0, second, first)[significant]
    return [1 + int(n) for n in np.bincount(worse, minlength=estimates.shape[1])]


def _mean_variances(values: Floats) -> Floats:
    """Return the variance of each pair's mean difference over targets, `[m, m]`.

    Args:
        values: float `[n, m]`. The variance is 0 with one target, and for a method without all n.
    """
    number, methods = values.shape
    if number < 2:
        return np.zeros((methods, methods))
    complete: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=0))
    covariances = np.cov(np.where(complete, values, 0), rowvar=False).reshape(methods, methods)
    return np.where(complete[:, None] & complete, _difference_variances(covariances) / number, 0)


def _difference_variances(covariances: Floats) -> Floats:
    """Return var(a - b) = var(a) + var(b) - 2 cov(a, b) of every pair, `[..., m, m]`."""
    diagonal = np.diagonal(covariances, axis1=-2, axis2=-1)
    # Rounding can leave a negative variance.
    variances: Floats = np.maximum(
        diagonal[..., :, None] + diagonal[..., None, :] - 2 * covariances, 0
    )
    return variances


def mean_ranks(tasks: Sequence[Floats]) -> Floats:
    """Return mean ranks over tasks, `[..., m]`; 1 is the largest value, ties share their mean rank.

    Args:
        tasks: for each task float `[..., m]`, values of the same m methods; -inf ranks last.
    """
    return np.asarray(np.mean([_ranks(values) for values in tasks], axis=0))


def _ranks(values: Floats) -> Floats:
    rows = values.reshape(-1, values.shape[-1])
    ranks = np.empty(rows.shape)
    # Sorting takes m log m for each row; comparing all pairs of methods would take m^2.
    for number, row in enumerate(rows):
        ordered = np.sort(row)
        not_above = np.searchsorted(ordered, row, "right")
        ties = not_above - np.searchsorted(ordered, row, "left")
        ranks[number] = len(row) - not_above + (ties + 1) / 2
    return ranks.reshape(values.shape)


def pareto_margins(benefit: NDArray[Any], costs: NDArray[Any]) -> Floats:
    """Return the lead of each method over all methods that cost no more, `[m]`.

    A method with a margin above 0 is on the Pareto front: no other method has as large a benefit for
    costs as small. The margin is infinite if no other method costs as little. Of two equal methods
    neither has a margin above 0.

    Args:
        benefit: `[m]`, larger is better.
        costs: `[m, k]`, smaller is better.
    """
    margins = np.full(len(benefit), np.inf)
    for number in range(len(benefit)):
        as_cheap = (costs <= costs[number]).all(axis=1)
        as_cheap[number] = False
        if as_cheap.any():
            margins[number] = benefit[number] - benefit[as_cheap].max()
    return margins
