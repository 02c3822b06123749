"""Bootstrap intervals: pure functions of counts and values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from attnbench.statistics.detection import Counts, corrected_rates


def interval(replicates: NDArray[np.floating[Any]], level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap replicates `[r]`."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def d_prime_interval(
    counts: Sequence[Sequence[Counts]],
    *,
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the mean d' over targets, by a hierarchical bootstrap.

    Args:
        counts: for each target one for each seed; every target has the same number of seeds.
        level: coverage aimed at.
        replicates: bootstrap samples.
        seed: of the generator; the same counts give the same interval.

    Returns:
        Lower and upper end.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(counts), (replicates, len(counts)))
    return interval(resampled_d_primes(counts, drawn, rng), level)


def resampled_d_primes(
    counts: Sequence[Sequence[Counts]], drawn: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Bootstrap replicates of the mean d' over targets, `[r]`.

    Targets are drawn with replacement, each with all its seeds, then images within each drawn
    target. At a fixed threshold, drawing n images of a class with replacement gives
    Binomial(n, observed rate) hits, exactly, so the images themselves are not needed.

    Args:
        counts: as for `d_prime_interval`.
        drawn: which targets each replicate has, `[r, targets]`: the same ones for methods that are to
            be compared.
        rng: draws the images.
    """
    hits, positives, false_alarms, negatives = (
        np.array([[getattr(each, name) for each in target] for target in counts])
        for name in ("hits", "positives", "false_alarms", "negatives")
    )
    new_hits = rng.binomial(positives[drawn], (hits / positives)[drawn])
    new_false_alarms = rng.binomial(negatives[drawn], (false_alarms / negatives)[drawn])
    hit_rates, false_alarm_rates = corrected_rates(
        new_hits, positives[drawn], new_false_alarms, negatives[drawn]
    )
    means: NDArray[np.float64] = (ndtri(hit_rates) - ndtri(false_alarm_rates)).mean(axis=(1, 2))
    return means


def paired_d_primes(
    counts: Sequence[Sequence[Counts]], drawn: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """As `resampled_d_primes`, the images of each target drawn in one go: ten times as fast.

    Its random numbers are others, so the intervals in records need the slower one.
    """
    flat = drawn.ravel().astype(np.min_scalar_type(len(counts)))  # sorted in linear time
    order = np.argsort(flat, kind="stable")
    ends = np.cumsum(np.bincount(flat, minlength=len(counts)))
    found = np.empty(len(flat))
    for number, (target, end) in enumerate(zip(counts, ends, strict=True)):
        own = order[(ends[number - 1] if number else 0) : end]
        found[own] = sum(_redrawn(each, len(own), rng) for each in target) / len(target)
    means: NDArray[np.float64] = found.reshape(drawn.shape).mean(axis=1)
    return means


def _redrawn(counts: Counts, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """d' of one episode with its images drawn anew, `[size]`."""
    hits = rng.binomial(counts.positives, counts.hits / counts.positives, size)
    false_alarms = rng.binomial(counts.negatives, counts.false_alarms / counts.negatives, size)
    hit_rates, _ = corrected_rates(
        np.arange(counts.positives + 1), counts.positives, 0, counts.negatives
    )
    _, false_alarm_rates = corrected_rates(
        0, counts.positives, np.arange(counts.negatives + 1), counts.negatives
    )
    redrawn: NDArray[np.float64] = ndtri(hit_rates)[hits] - ndtri(false_alarm_rates)[false_alarms]
    return redrawn


def median_interval(
    values: Sequence[float], *, level: float = 0.95, replicates: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """The median and its percentile bootstrap interval: (median, low, high)."""
    array = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    medians = np.median(rng.choice(array, (replicates, len(array))), axis=1)
    return float(np.median(array)), *interval(medians, level)
