"""Comparing a detector's episodes with new ones of the same targets: a pure function of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attnbench.statistics.comparison import Difference, differences
from attnbench.statistics.resampling import (
    Trials,
    bootstrap_means,
    d_as,
    d_primes,
    statistic_by_target,
)


@dataclass(frozen=True)
class Retest:
    """New episodes compared with earlier ones, paired by target.

    Attributes:
        d_prime, d_a: means over targets in the new episodes and in the earlier ones, in z units.
        difference: of d_a, new - earlier.
    """

    d_prime: tuple[float, float]
    d_a: tuple[float, float]
    difference: Difference


def retest(new: Sequence[Trials], earlier: Sequence[Trials]) -> Retest:
    """Compare new episodes with earlier ones, as two methods are compared on the same episodes.

    The two episodes of a target have different images. The bootstrap pairs their images by position,
    which is random, so that the covariance between them is 0 on average.

    Args:
        new: one episode per target, with the scores `[1, n]` of one detector.
        earlier: an episode of the same targets, with the same number of images of each class.

    Raises:
        ValueError: if the numbers of images differ.
    """
    targets = [[_beside(*pair)] for pair in zip(new, earlier, strict=True)]
    (replicates,) = bootstrap_means(targets, (d_as,))
    values = statistic_by_target(targets, d_as)
    (difference,) = differences(values, replicates)
    means = (statistic_by_target(targets, d_primes).mean(axis=0), values.mean(axis=0))
    d_prime, d_a = ((float(mean[0]), float(mean[1])) for mean in means)
    return Retest(d_prime, d_a, difference)


def _beside(new: Trials, earlier: Trials) -> Trials:
    """Return both episodes as two detectors of one episode, `[2, n]`, with the positives first."""
    positives_first = [np.argsort(~each.present, kind="stable") for each in (new, earlier)]
    present = new.present[positives_first[0]]
    if not np.array_equal(present, earlier.present[positives_first[1]]):
        raise ValueError("the episodes have different numbers of images")
    scores = [
        each.scores[0, order] for each, order in zip((new, earlier), positives_first, strict=True)
    ]
    return Trials(present, np.stack(scores))
