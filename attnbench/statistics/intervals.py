"""Intervals, and replicates of what is compared: pure functions of counts and values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtri, stdtrit

from attnbench.statistics.detection import Counts, corrected_rates

Floats = NDArray[np.float64]
# Of how many equally probable outcomes a resampled number of images is one.
_LEVELS = 4096


def interval(replicates: NDArray[np.floating[Any]], level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap replicates `[r]`."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_interval(
    groups: Sequence[Floats], *, level: float = 0.95, error: float = 0.0
) -> tuple[float, float]:
    """Interval of the mean of groups' means, by Student's t: of all that the values are drawn from.

    m +- t sqrt(v), v = sum of v_g, v_g = s_g^2 / (n_g G^2), with v^2 / sum of v_g^2 / (n_g - 1)
    degrees of freedom, which are n - 1 for one group (Welch 1947, Satterthwaite 1946, Biometrika 34
    and Biometrics Bulletin 2). A group of one value does not say how much it varies.

    Args:
        groups: `[n_g]` each, n_g >= 1.
        level: coverage aimed at.
        error: standard error that the mean has even of these very values, should these vary by chance
            less than they must: the interval is never narrower than m +- z error.
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
    """Of a sum of independent estimates of variance: v^2 / sum of v_g^2 / (n_g - 1), as above.

    Args:
        parts: `[g, ...]`, variances that add up, not all 0.
        sizes: `[g]`, how many values each was estimated from; 2 at least where it is not 0.
    """
    less = np.maximum(sizes - 1, 1).reshape(-1, *[1] * (parts.ndim - 1))
    found: Floats = parts.sum(axis=0) ** 2 / (parts**2 / less).sum(axis=0)
    return found


def d_prime_interval(
    *tasks: Sequence[Sequence[Counts]], level: float = 0.95
) -> tuple[float, float]:
    """Interval of the mean d' over targets, as if these were drawn from many alike (`mean_interval`).

    How much targets' d' vary says how well their mean is known, images' share included, so it is not
    added once more. It is never narrower than for these very targets on other images, where
    var d' = H (1 - H) / (n+ phi(z_H)^2) + F (1 - F) / (n- phi(z_F)^2) (Gourevitch & Galanter 1967,
    Psychometrika 32, 25-33).

    Args:
        tasks: for each target one for each seed; of several tasks, the mean over these.
        level: coverage aimed at.

    Returns:
        Lower and upper end.
    """
    found, errors = zip(*map(_by_target, tasks), strict=True)
    error = sqrt(sum(each.sum() / len(each) ** 2 for each in errors)) / len(tasks)
    return mean_interval(found, level=level, error=error)


def _by_target(counts: Sequence[Sequence[Counts]]) -> tuple[Floats, Floats]:
    """The mean d' of each target over its seeds, and its variance from images alone."""
    flat = [(c.hits, c.positives, c.false_alarms, c.negatives) for each in counts for c in each]
    hits, positives, false_alarms, negatives = np.array(flat).T
    hit_rates, false_alarm_rates = corrected_rates(hits, positives, false_alarms, negatives)
    variances = _z_variance(hit_rates, positives) + _z_variance(false_alarm_rates, negatives)
    seeds = np.array([len(each) for each in counts])
    owner = np.repeat(np.arange(len(counts)), seeds)
    found = np.bincount(owner, ndtri(hit_rates) - ndtri(false_alarm_rates)) / seeds
    return found, np.bincount(owner, variances) / seeds**2


def _z_variance(rates: Floats, images: NDArray[np.int64]) -> Floats:
    density = np.exp(-(ndtri(rates) ** 2) / 2) / sqrt(2 * np.pi)
    found: Floats = rates * (1 - rates) / (images * density**2)
    return found


def resampled_d_primes(
    counts: Sequence[Sequence[Counts]], drawn: NDArray[np.int64], rng: np.random.Generator
) -> Floats:
    """Bootstrap replicates of the mean d' over targets, `[r]`.

    Targets are drawn with replacement, each with all its seeds, then images within each drawn
    target. At a fixed threshold, drawing n images of a class with replacement gives
    Binomial(n, observed rate) hits, so the images themselves are not needed.

    Args:
        counts: for each target one for each seed.
        drawn: which targets each replicate has, `[r, targets]`: the same ones for methods that are to
            be compared.
        rng: draws the images.
    """
    flat = drawn.ravel().astype(np.min_scalar_type(len(counts)))  # sorted in linear time
    order = np.argsort(flat, kind="stable")
    ends = np.cumsum(np.bincount(flat, minlength=len(counts)))
    found = np.empty(len(flat))
    for number, (target, end) in enumerate(zip(counts, ends, strict=True)):
        own = order[(ends[number - 1] if number else 0) : end]
        found[own] = sum(_redrawn(each, len(own), rng) for each in target) / len(target)
    means: Floats = found.reshape(drawn.shape).mean(axis=1)
    return means


def _redrawn(counts: Counts, size: int, rng: np.random.Generator) -> Floats:
    """d' of one episode with its images drawn anew, `[size]`."""
    share = counts.positives / (counts.positives + counts.negatives)
    z_hit = _z_quantiles(counts.hits, counts.positives, share)
    z_false_alarm = _z_quantiles(counts.false_alarms, counts.negatives, 1 - share)
    bits = rng.integers(0, 2**64 - 1, (2, -(-size // 4)), np.uint64, endpoint=True)
    which = bits.view(np.uint16)[:, :size] % _LEVELS  # four draws from every 64 bits
    redrawn: Floats = z_hit[which[0]] - z_false_alarm[which[1]]
    return redrawn


@lru_cache(maxsize=2048)
def _z_quantiles(number: int, images: int, added: float) -> Floats:
    """z of the corrected rate at `_LEVELS` equally probable outcomes of images drawn anew, `[_LEVELS]`.

    Thousands are drawn from each: to look one up is much quicker than to draw it.
    """
    upto = bdtr(np.arange(images), images, number / images)
    outcomes = np.searchsorted(upto, (np.arange(_LEVELS) + 0.5) / _LEVELS)
    found: Floats = ndtri((outcomes + added) / (images + 2 * added))
    return found


def median_interval(
    values: Sequence[float], *, level: float = 0.95, replicates: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """The median and its percentile bootstrap interval: (median, low, high)."""
    array = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    medians = np.median(rng.choice(array, (replicates, len(array))), axis=1)
    return float(np.median(array)), *interval(medians, level)
