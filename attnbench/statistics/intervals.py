"""Confidence intervals and bootstrap replicates: pure functions of counts and values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtri, stdtrit

from attnbench.statistics.detection import corrected_rates
from attnbench.statistics.measures import Counts

Floats = NDArray[np.float64]
# The number of equally probable outcomes that stand for a binomial distribution. 4096 divides 2**16,
# so the remainder of 16 random bits is uniform.
_LEVELS = 4096


def percentile_interval(
    replicates: NDArray[np.floating[Any]], level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile interval (low, high) of bootstrap replicates `[r]`."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_interval(
    groups: Sequence[Floats], *, level: float = 0.95, error: float = 0.0
) -> tuple[float, float]:
    """Return Student's t interval of the mean of the group means, for the sampled population.

    m +- t sqrt(v), where v = sum of v_g and v_g = s_g^2 / (n_g G^2) over G groups. t has
    v^2 / sum of v_g^2 / (n_g - 1) degrees of freedom, which is n - 1 for one group (Welch 1947,
    Biometrika 34; Satterthwaite 1946, Biometrics Bulletin 2). A group with a single value says
    nothing about its variance and adds nothing to v.

    Args:
        groups: float `[n_g]` each, n_g >= 1.
        level: nominal coverage.
        error: standard error of the mean of these very values. The sample variance can be smaller
            than it by chance, so the interval is never narrower than m +- z error.

    Returns:
        Lower and upper end.
    """
    middle = float(np.mean([group.mean() for group in groups]))
    several = [group for group in groups if len(group) > 1]
    parts = np.array([group.var(ddof=1) / (len(group) * len(groups) ** 2) for group in several])
    half = ndtri((1 + level) / 2) * error
    if parts.any():
        freedom = degrees_of_freedom(parts, np.array([len(group) for group in several]))
        half = max(half, stdtrit(freedom, (1 + level) / 2) * sqrt(parts.sum()))
    return middle - float(half), middle + float(half)


def degrees_of_freedom(parts: Floats, sizes: NDArray[np.int64]) -> Floats:
    """Return Satterthwaite's degrees of freedom: v^2 / sum of v_g^2 / (n_g - 1).

    Args:
        parts: float `[g, ...]`, independent variances v_g that add up to v, not all 0.
        sizes: int `[g]`, the number of values n_g behind each variance; at least 2 unless the
            variance is 0.

    Returns:
        float `[...]`.
    """
    freedoms = np.maximum(sizes - 1, 1).reshape(-1, *[1] * (parts.ndim - 1))
    total: Floats = parts.sum(axis=0) ** 2 / (parts**2 / freedoms).sum(axis=0)
    return total


def d_prime_interval(
    *tasks: Sequence[Sequence[Counts]], level: float = 0.95
) -> tuple[float, float]:
    """Return the interval of the mean d' over targets, which count as a sample of many.

    The variance between targets includes that due to images, so images add no variance of their own
    (see `mean_interval`). The interval is never narrower than the one for these very targets on new
    images, where
    var d' = H (1 - H) / (n+ phi(z_H)^2) + F (1 - F) / (n- phi(z_F)^2)
    (Gourevitch & Galanter 1967, Psychometrika 32, 25-33).

    Args:
        tasks: for each task a sequence of targets, each with the counts of its seeds. With several
            tasks the interval is that of the mean over tasks.
        level: nominal coverage.

    Returns:
        Lower and upper end, in z units.
    """
    means, variances = zip(*map(_by_target, tasks), strict=True)
    error = sqrt(sum(task.sum() / len(task) ** 2 for task in variances)) / len(tasks)
    return mean_interval(means, level=level, error=error)


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


def bootstrap_d_primes(
    counts: Sequence[Sequence[Counts]], drawn: NDArray[np.int64], rng: np.random.Generator
) -> Floats:
    """Return bootstrap replicates of the mean d' over targets, `[r]`.

    Targets are drawn with replacement, each with all its seeds, then images within each drawn target.
    At a fixed threshold, n images of one class drawn with replacement give Binomial(n, observed rate)
    hits, so the images themselves are not needed.

    Args:
        counts: the counts of each target's seeds.
        drawn: int `[r, targets]`, the targets in each replicate. Methods that are compared with each
            other get the same draw.
        rng: draws the images.
    """
    # A small integer type lets the stable sort be a radix sort, which takes linear time.
    flat = drawn.ravel().astype(np.min_scalar_type(len(counts)))
    order = np.argsort(flat, kind="stable")
    ends = np.cumsum(np.bincount(flat, minlength=len(counts)))
    d_primes = np.empty(len(flat))
    for number, (seeds, end) in enumerate(zip(counts, ends, strict=True)):
        rows = order[(ends[number - 1] if number else 0) : end]
        d_primes[rows] = sum(_redrawn(c, len(rows), rng) for c in seeds) / len(seeds)
    means: Floats = d_primes.reshape(drawn.shape).mean(axis=1)
    return means


def _redrawn(counts: Counts, size: int, rng: np.random.Generator) -> Floats:
    """Return replicates `[size]` of one episode's d', its images drawn with replacement."""
    share = counts.positives / (counts.positives + counts.negatives)
    z_hit = _z_quantiles(counts.hits, counts.positives, share)
    z_false_alarm = _z_quantiles(counts.false_alarms, counts.negatives, 1 - share)
    # Each 64-bit draw is split into four 16-bit draws.
    bits = rng.integers(0, 2**64 - 1, (2, -(-size // 4)), np.uint64, endpoint=True)
    levels = bits.view(np.uint16)[:, :size] % _LEVELS
    d_primes: Floats = z_hit[levels[0]] - z_false_alarm[levels[1]]
    return d_primes


@lru_cache(maxsize=2048)
def _z_quantiles(number: int, images: int, added: float) -> Floats:
    """Return z of the corrected rate at equally probable binomial outcomes, `[_LEVELS]`.

    Thousands of replicates are drawn from each table, and a look-up is much faster than a binomial
    draw.
    """
    cumulative = bdtr(np.arange(images), images, number / images)
    outcomes = np.searchsorted(cumulative, (np.arange(_LEVELS) + 0.5) / _LEVELS)
    quantiles: Floats = ndtri((outcomes + added) / (images + 2 * added))
    return quantiles


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
