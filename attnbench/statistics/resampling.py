"""A hierarchical bootstrap of several detectors at once: targets are drawn first, then images.

All detectors share the drawn targets and images. Every difference, rank or interval is computed within
a replicate, so methods are compared as pairs on the same episodes and images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from attnbench.statistics.detection import corrected_rates, d_a

Floats = NDArray[np.float64]
# The number of image weights held in memory at a time, over all replicates of one block.
_CELLS_AT_ONCE = 20_000_000


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


# The episodes of each target, one per seed, all with the same detectors in the same order.
Targets = Sequence[Sequence[Trials]]
# Maps an episode and image weights, [r, n+] and [r, n-], to a statistic of each detector, [r, m].
# A weight is the number of times that an image was drawn.
Statistic = Callable[[Trials, Floats, Floats], Floats]


def d_primes(trials: Trials, positive_weights: Floats, negative_weights: Floats) -> Floats:
    """Return d' of every detector, `[r, m]`, as defined in `attnbench.statistics.detection`.

    Args:
        trials: the episode.
        positive_weights, negative_weights: float `[r, n+]` and `[r, n-]`, how often each image was
            drawn.
    """
    called_present = (trials.scores > 0).astype(np.float64)
    hits = positive_weights @ called_present[:, trials.present].T
    false_alarms = negative_weights @ called_present[:, ~trials.present].T
    hit_rates, false_alarm_rates = corrected_rates(
        hits, trials.present.sum(), false_alarms, (~trials.present).sum()
    )
    sensitivities: Floats = ndtri(hit_rates) - ndtri(false_alarm_rates)
    return sensitivities


def d_as(trials: Trials, positive_weights: Floats, negative_weights: Floats) -> Floats:
    """Return d_a = sqrt(2) z(AUC) of every detector, `[r, m]`; the arguments are as in `d_primes`."""
    positives, negatives = int(trials.present.sum()), int((~trials.present).sum())
    areas = []
    for scores in trials.scores:
        with_target, without = scores[trials.present, None], scores[None, ~trials.present]
        in_order = (with_target > without) + 0.5 * (with_target == without)
        pairs = ((positive_weights @ in_order) * negative_weights).sum(axis=1)
        areas.append(pairs / (positives * negatives))
    return d_a(np.stack(areas, axis=1), positives, negatives)


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
    targets: Targets, statistic: Statistic, *, replicates: int = 2000, seed: int = 0
) -> Floats:
    """Return bootstrap replicates of the mean of a statistic over targets, `[replicates, m]`.

    Targets are drawn with replacement, each with all its seeds. Within each drawn episode, positives
    and negatives are drawn with replacement separately.

    Args:
        targets, statistic: as in `statistic_by_target`.
        replicates: number of replicates.
        seed: of the random generator. The same trials give the same replicates.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(targets), (replicates, len(targets)))
    sums = np.zeros((replicates, len(targets[0][0].scores)))
    for number, seeds in enumerate(targets):
        # The replicates with this target, repeated as often as they have drawn it.
        rows = np.nonzero(drawn == number)[0]
        for trials in seeds:
            for block in _blocks(rows, len(trials.present)):
                weights = (
                    rng.multinomial(count, np.full(count, 1 / count), len(block)).astype(float)
                    for count in (int(trials.present.sum()), int((~trials.present).sum()))
                )
                # `sums[block] += …` would count a repeated replicate only once.
                np.add.at(sums, block, statistic(trials, *weights) / len(seeds))
    return sums / len(targets)


def _observed(trials: Trials, statistic: Statistic) -> Floats:
    """Return the statistic of an episode whose images are drawn once each, `[m]`."""
    counts = int(trials.present.sum()), int((~trials.present).sum())
    values: Floats = statistic(trials, *(np.ones((1, count)) for count in counts))[0]
    return values


def _blocks(rows: NDArray[np.int64], images: int) -> list[NDArray[np.int64]]:
    """Split replicates into blocks whose image weights fit into memory."""
    return np.array_split(rows, max(1, -(-len(rows) * images // _CELLS_AT_ONCE)))
