"""The hierarchical bootstrap of several detectors at once: targets, then images, the same for all.

What is drawn together is compared together: every difference, rank or interval is taken within a
replicate, so that methods are paired on the same episodes and images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from attnbench.statistics.detection import corrected_rates, d_as_of

Floats = NDArray[np.float64]
# How many drawn images are held at a time.
_CELLS_AT_ONCE = 20_000_000


@dataclass(frozen=True)
class Trials:
    """What `m` detectors made of the same test images of one episode.

    Attributes:
        present: bool `[n]`, whether the target is in the image; some are and some are not.
        scores: float `[m, n]`.
    """

    present: NDArray[np.bool_]
    scores: NDArray[np.floating[Any]]

    def __post_init__(self) -> None:
        if self.scores.ndim != 2 or self.scores.shape[1:] != self.present.shape:
            raise ValueError(f"scores {self.scores.shape} of images {self.present.shape}")
        if self.present.all() or not self.present.any():
            raise ValueError("trials need images with the target and images without")


Targets = Sequence[Sequence[Trials]]
# From an episode and how often each image was drawn, [r, n+] and [r, n-], to a figure [r, m].
Figure = Callable[[Trials, Floats, Floats], Floats]


def d_primes(trials: Trials, drawn_positives: Floats, drawn_negatives: Floats) -> Floats:
    """d' of every detector, `[r, m]`, as in `attnbench.statistics.detection`.

    Args:
        trials: the episode.
        drawn_positives, drawn_negatives: how often each image counts, `[r, n+]` and `[r, n-]`.
    """
    said = (trials.scores > 0).astype(np.float64)
    hits = drawn_positives @ said[:, trials.present].T
    false_alarms = drawn_negatives @ said[:, ~trials.present].T
    hit_rates, false_alarm_rates = corrected_rates(
        hits, trials.present.sum(), false_alarms, (~trials.present).sum()
    )
    found: Floats = ndtri(hit_rates) - ndtri(false_alarm_rates)
    return found


def d_as(trials: Trials, drawn_positives: Floats, drawn_negatives: Floats) -> Floats:
    """d_a = sqrt(2) z(AUC) of every detector, `[r, m]`; arguments as for `d_primes`."""
    positives, negatives = int(trials.present.sum()), int((~trials.present).sum())
    areas = []
    for scores in trials.scores:
        with_target, without = scores[trials.present, None], scores[None, ~trials.present]
        in_order = (with_target > without) + 0.5 * (with_target == without)
        pairs = ((drawn_positives @ in_order) * drawn_negatives).sum(axis=1)
        areas.append(pairs / (positives * negatives))
    return d_as_of(np.stack(areas, axis=1), positives, negatives)


def observed(targets: Targets, figure: Figure) -> Floats:
    """A figure of every detector on each target, the mean over its seeds, `[targets, m]`.

    Args:
        targets: for each target its episodes, one for each seed; every one of the same m detectors.
        figure: `d_primes` or `d_as`.
    """
    return np.stack([np.mean([_once(each, figure) for each in seeds], axis=0) for seeds in targets])


def resampled(targets: Targets, figure: Figure, *, replicates: int = 2000, seed: int = 0) -> Floats:
    """Bootstrap replicates of the mean of a figure over targets, `[replicates, m]`.

    Targets are drawn with replacement, each with all its seeds, then images within each drawn episode,
    those with the target and those without apart.

    Args:
        targets, figure: as for `observed`.
        replicates: how many.
        seed: of the generator; the same trials give the same replicates.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(targets), (replicates, len(targets)))
    sums = np.zeros((replicates, len(targets[0][0].scores)))
    for number, seeds in enumerate(targets):
        owners = np.nonzero(drawn == number)[0]
        for trials in seeds:
            for some in _parts(owners, len(trials.present)):
                weights = (
                    rng.multinomial(count, np.full(count, 1 / count), len(some)).astype(float)
                    for count in (int(trials.present.sum()), int((~trials.present).sum()))
                )
                np.add.at(sums, some, figure(trials, *weights) / len(seeds))
    return sums / len(targets)


def _once(trials: Trials, figure: Figure) -> Floats:
    counts = int(trials.present.sum()), int((~trials.present).sum())
    found: Floats = figure(trials, *(np.ones((1, count)) for count in counts))[0]
    return found


def _parts(owners: NDArray[np.int64], images: int) -> list[NDArray[np.int64]]:
    return np.array_split(owners, max(1, -(-len(owners) * images // _CELLS_AT_ONCE)))
