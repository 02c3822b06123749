"""Comparing a detector's episodes with new ones of the same targets: a pure function of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnbench.statistics.detection import d_a_variance, detect
from attnbench.statistics.intervals import mean_interval


@dataclass(frozen=True)
class Trials:
    """A detector's scores on the test images of an episode.

    Attributes:
        scores: float `[n]`.
        present: bool `[n]`, whether the target is in the image; both classes occur.
    """

    scores: NDArray[np.floating[Any]]
    present: NDArray[np.bool_]


@dataclass(frozen=True)
class Retest:
    """New episodes compared with earlier ones, paired by target.

    Attributes:
        d_prime, d_a: means over targets in the new episodes and in the earlier ones, in z units.
        low, high: 95 % interval of the difference in d_a, new - earlier.
    """

    d_prime: tuple[float, float]
    d_a: tuple[float, float]
    low: float
    high: float


def retest(new: Sequence[Trials], earlier: Sequence[Trials]) -> Retest:
    """Compare new episodes with earlier ones of the same targets on other images.

    The interval is Student's t over targets, and never narrower than the one for these very targets,
    whose images alone vary (`attnbench.statistics.detection.d_a_variance`).

    Args:
        new: one episode per target.
        earlier: an episode of the same targets, with the same number of images of each class.

    Raises:
        ValueError: if the numbers of images differ.
    """
    pairs = list(zip(new, earlier, strict=True))
    if any(np.bincount(a.present).tolist() != np.bincount(b.present).tolist() for a, b in pairs):
        raise ValueError("the episodes have different numbers of images")
    found = [[detect(trials.scores, trials.present) for trials in pair] for pair in pairs]
    d_primes = np.array([[detection.d_prime for detection in pair] for pair in found])
    d_as = np.array([[detection.d_a for detection in pair] for pair in found])
    variance = sum(d_a_variance(trials.scores, trials.present) for pair in pairs for trials in pair)
    low, high = mean_interval(d_as[:, 0] - d_as[:, 1], error=sqrt(variance) / len(pairs))
    return Retest(_means(d_primes), _means(d_as), low, high)


def _means(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the means over targets of the new and of the earlier values `[targets, 2]`."""
    new, earlier = values.mean(axis=0).tolist()
    return new, earlier
