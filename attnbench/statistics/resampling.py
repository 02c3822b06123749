"""A hierarchical bootstrap of several detectors at once, over targets and over images.

All detectors share the drawn targets and images. Every difference, rank or interval is computed within
a replicate, so methods are compared as pairs on the same episodes and images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from attnbench.statistics.detection import corrected_rates, d_a

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
# The number of image weights in memory at a time. Blocks of this size fit into a processor's cache.
_CELLS_AT_ONCE = 100_000


@dataclass(frozen=True)
class Trials:
    """The scores of `m` detectors on the same test images of one episode.

    Attributes:
        present: bool `[n]`, whether the target is in the image; both classes occur.
        scores: float `[m, n]`.

    Raises:
        ValueError: if the shapes differ or one class is empty.
    """

    present: NDArray[np.bool_]
    scores: NDArray[np.floating[Any]]

    def __post_init__(self) -> None:
        if self.scores.ndim != 2 or self.scores.shape[1:] != self.present.shape:
            raise ValueError(
                f"scores {self.scores.shape} must be [m, n] for {self.present.shape} images"
            )
        if self.present.all() or not self.present.any():
            raise ValueError("trials need images with the target and images without it")

    @cached_property
    def placements(self) -> tuple[Placements, ...]:
        """The placements of each detector's scores."""
        return tuple(
            _placements(scores[self.present], scores[~self.present]) for scores in self.scores
        )


@dataclass(frozen=True)
class Placements:
    """Where the scores of negatives are among the sorted scores of positives.

    Attributes:
        order: int `[n+]`, the positives by increasing score.
        negatives: int `[k]`, the negatives that are not below all positives.
        below: int `[k]`, the number of positives with a lower score than each of these.
        not_above: int `[k]`, the number of positives with a lower or an equal score.
    """

    order: Indices
    negatives: Indices
    below: Indices
    not_above: Indices


def _placements(
    positives: NDArray[np.floating[Any]], negatives: NDArray[np.floating[Any]]
) -> Placements:
    order = np.argsort(positives)
    below, not_above = (
        np.searchsorted(positives, negatives, side, sorter=order) for side in ("left", "right")
    )
    (misplaced,) = np.nonzero(not_above)
    return Placements(order, misplaced, below[misplaced], not_above[misplaced])


# The episodes of each target, one per seed, all with the same detectors in the same order.
Targets = Sequence[Sequence[Trials]]
# Maps an episode and image weights, [n+, r] and [n-, r], to a statistic of each detector, [m, r].
# A weight is the number of times that an image was drawn.
Statistic = Callable[[Trials, Floats, Floats], Floats]


def d_primes(trials: Trials, positive_weights: Floats, negative_weights: Floats) -> Floats:
    """Return d' of every detector, `[m, r]`, as defined in `attnbench.statistics.detection`.

    Args:
        trials: the episode.
        positive_weights, negative_weights: float `[n+, r]` and `[n-, r]`, how often each image was
            drawn. The columns sum to n+ and n-.
    """
    called_present = (trials.scores > 0).astype(np.float64)
    hits = called_present[:, trials.present] @ positive_weights
    false_alarms = called_present[:, ~trials.present] @ negative_weights
    hit_rates, false_alarm_rates = corrected_rates(
        hits, len(positive_weights), false_alarms, len(negative_weights)
    )
    sensitivities: Floats = ndtri(hit_rates) - ndtri(false_alarm_rates)
    return sensitivities


def d_as(trials: Trials, positive_weights: Floats, negative_weights: Floats) -> Floats:
    """Return d_a = sqrt(2) z(AUC) of every detector, `[m, r]`; the arguments are as in `d_primes`.

    The AUC is the fraction of pairs of a positive and a negative in the right order, where ties count
    half. Cumulative weights of the sorted positives give all wrong pairs of a negative at once.
    """
    positives, negatives = len(positive_weights), len(negative_weights)
    sums = np.zeros((positives + 1, positive_weights.shape[1]))
    areas = []
    for places in trials.placements:
        np.cumsum(positive_weights[places.order], axis=0, out=sums[1:])
        lower = (sums[places.below] + sums[places.not_above]) / 2
        # Sums of multiples of 1/2 are exact, so equal orders of images give equal areas.
        wrong_pairs = np.einsum("nr,nr->r", lower, negative_weights[places.negatives])
        areas.append((positives * negatives - wrong_pairs) / (positives * negatives))
    return d_a(np.stack(areas), positives, negatives)


def statistic_by_target(targets: Targets, statistic: Statistic) -> Floats:
    """Return the observed statistic of every detector on each target, the mean over seeds, `[n, m]`.

    Args:
        targets: the episodes of each of n targets, one per seed, all with the same m detectors.
        statistic: `d_primes` or `d_as`.
    """
    return np.stack(
        [np.mean([_observed(trials, statistic) for trials in seeds], axis=0) for seeds in targets]
    )


def bootstrap_means(
    targets: Targets, statistics: Sequence[Statistic], *, replicates: int = 2000, seed: int = 0
) -> Floats:
    """Return bootstrap replicates of the means of statistics over targets, `[s, replicates, m]`.

    First the images of every target are resampled `replicates / targets` times, rounded up. In each
    episode, positives and negatives are drawn with replacement separately. Then each replicate draws
    targets with replacement, and for each drawn target one of its resamples.

    The expected variance is that of a bootstrap that resamples all images in each replicate, which
    takes as many times longer as there are targets. Its part due to images is smaller by a factor of
    at most 1 - 1 / replicates.

    Args:
        targets: the episodes of each target, one per seed, all with the same m detectors.
        statistics: s of `d_primes` and `d_as`, which are computed from the same draws.
        replicates: number of replicates.
        seed: of the random generator. The same trials give the same replicates.
    """
    rng = np.random.default_rng(seed)
    resamples = -(-replicates // len(targets))
    by_target = [
        sum(_resampled(trials, statistics, resamples, rng) for trials in seeds) / len(seeds)
        for seeds in targets
    ]
    pool = np.stack(by_target)  # [targets, resamples, s, m]
    sums = np.zeros((replicates, *pool.shape[2:]))
    for _ in targets:
        drawn = rng.integers(len(targets), size=replicates)
        sums += pool[drawn, rng.integers(resamples, size=replicates)]
    return np.moveaxis(sums / len(targets), 0, 1)


def _resampled(
    trials: Trials, statistics: Sequence[Statistic], resamples: int, rng: np.random.Generator
) -> Floats:
    """Return statistics of an episode whose images are drawn with replacement, `[resamples, s, m]`."""
    positives = int(trials.present.sum())
    counts = positives, len(trials.present) - positives
    at_once = max(1, _CELLS_AT_ONCE // len(trials.present))
    blocks = []
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        weights = [_drawn(count, size, rng) for count in counts]
        blocks.append(np.stack([statistic(trials, *weights) for statistic in statistics]))
    return np.moveaxis(np.concatenate(blocks, axis=-1), -1, 0)


def _drawn(images: int, resamples: int, rng: np.random.Generator) -> Floats:
    """Draw images with replacement. Return how often each was drawn, `[images, resamples]`."""
    # Counting drawn numbers is several times faster than a multinomial distribution with as many
    # outcomes as images.
    cells = rng.integers(images, size=(images, resamples))
    cells *= resamples
    cells += np.arange(resamples)
    counts = np.bincount(cells.ravel(), minlength=images * resamples)
    return counts.reshape(images, resamples).astype(np.float64)


def _observed(trials: Trials, statistic: Statistic) -> Floats:
    """Return the statistic of an episode whose images are drawn once each, `[m]`."""
    counts = int(trials.present.sum()), int((~trials.present).sum())
    values: Floats = statistic(trials, *(np.ones((count, 1)) for count in counts))[:, 0]
    return values
