"""Confidence intervals: pure functions of counts and values."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from attnbench.statistics.detection import corrected_rates
from attnbench.statistics.measures import Counts

Floats = NDArray[np.float64]
Interval = tuple[float, float]


def percentile_interval(
    replicates: NDArray[np.floating[Any]], level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile interval (low, high) of bootstrap replicates `[r]`."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_interval(
    values: Floats, *, level: float = 0.95, error: float = 0.0
) -> tuple[float, float]:
    """Return Student's t interval of the mean, for the population that the values are a sample of.

    Args:
        values: float `[n]`, n >= 1. A single value says nothing about its variance.
        level: nominal coverage.
        error: standard error of the mean of these very values. The sample variance can be smaller
            than it by chance, so the interval is never narrower than m +- z error.

    Returns:
        Lower and upper end.
    """
    mean, half = float(values.mean()), float(ndtri((1 + level) / 2)) * error
    if len(values) > 1:
        spread = float(values.std(ddof=1)) / sqrt(len(values))
        half = max(half, float(stdtrit(len(values) - 1, (1 + level) / 2)) * spread)
    return mean - half, mean + half


def d_prime_interval(
    counts: Sequence[Sequence[Counts]], *, level: float = 0.95
) -> tuple[float, float]:
    """Return the interval of the mean d' over targets, which count as a sample of many.

    The variance between targets includes that due to images, so images add no variance of their own
    (see `mean_interval`). The interval is never narrower than the one for these very targets on new
    images, where
    var d' = H (1 - H) / (n+ phi(z_H)^2) + F (1 - F) / (n- phi(z_F)^2)
    (Gourevitch & Galanter 1967, Psychometrika 32, 25-33).

    Args:
        counts: the counts of each target's seeds.
        level: nominal coverage.

    Returns:
        Lower and upper end, in z units.
    """
    means, variances = _by_target(counts)
    return mean_interval(means, level=level, error=sqrt(variances.sum()) / len(variances))


def _by_target(counts: Sequence[Sequence[Counts]]) -> tuple[Floats, Floats]:
    """Return each target's mean d' over seeds, and its variance due to images alone, `[n]` each."""
    flat = [(c.hits, c.positives, c.false_alarms, c.negatives) for seeds in counts for c in seeds]
    hits, positives, false_alarms, negatives = np.array(flat).T
    hit_rates, false_alarm_rates = corrected_rates(hits, positives, false_alarms, negatives)
    variances = _z_variance(hit_rates, positives) + _z_variance(false_alarm_rates, negatives)
    seed_counts = np.array([len(seeds) for seeds in counts])
    target_indices = np.repeat(np.arange(len(counts)), seed_counts)
    d_primes = ndtri(hit_rates) - ndtri(false_alarm_rates)
    means = np.bincount(target_indices, d_primes) / seed_counts
    return means, np.bincount(target_indices, variances) / seed_counts**2


def _z_variance(rates: Floats, images: NDArray[np.int64]) -> Floats:
    """Return the variance of z(rate) by the delta method; `rates` and `images` are `[n]`."""
    density = np.exp(-(ndtri(rates) ** 2) / 2) / sqrt(2 * np.pi)
    variances: Floats = rates * (1 - rates) / (images * density**2)
    return variances


def median_interval(
    values: Sequence[float], *, level: float = 0.95, replicates: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Return the median of values `[n]` and its percentile bootstrap interval: (median, low, high).

    Args:
        values: at least one.
        level: nominal coverage.
        replicates: number of bootstrap replicates.
        seed: of the random generator.
    """
    array = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    medians = np.median(rng.choice(array, (replicates, len(array))), axis=1)
    return float(np.median(array)), *percentile_interval(medians, level)
