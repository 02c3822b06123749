"""What a detector may spend on prediction, and what its scores may depend on.

Pure functions of times and scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The budget: this many forward passes of the backbone over the same images, and this many seconds
# more. A detector that looks at an image many times is welcome; one that trains meanwhile is not.
PASSES, GRACE_SECONDS = 20.0, 5.0
# A batch is an outlier if it takes this many times as long as batches of its size usually do, and
# this many seconds longer. (The first batch of any process takes 10 to 40 ms longer than the others,
# for threads and kernels.)
_OUTLIER_FACTOR, _OUTLIER_SECONDS = 3.0, 0.05
# How many images are shown again, to a fresh process, in batches of another size.
_REPEATED_IMAGES = 24
# How many of their scores may differ. Kernels for another batch size round differently, which can
# change the sign of a score near the threshold.
MAX_DIFFERENT = 2
# A score that changed by at most this fraction of itself was merely rounded differently. One that
# moved past at most this share of all images, or this many of them, has kept its place.
_ROUNDING, _RANK_SHARE, _RANK_IMAGES = 1e-5, 0.02, 2


def budget_seconds(pass_seconds: float, pass_images: int, images: int) -> float:
    """The most seconds that predicting `images` may take, loading the detector included.

    Args:
        pass_seconds: duration of a forward pass of the backbone over `pass_images` images.
        pass_images: the number of images in that pass.
        images: the number of images to predict.
    """
    return PASSES * pass_seconds * images / pass_images + GRACE_SECONDS


def deferred_seconds(images: Sequence[int], seconds: Sequence[float]) -> float:
    """The part of a prediction's time that was spent on something other than its images.

    Work that an adaptation puts off until prediction shows as a batch that takes far longer than
    batches of its size usually do. Small excesses are noise and count as zero.

    Args:
        images: number of images in each batch.
        seconds: duration of each batch.
    """
    sizes, durations = np.array(images, float), np.array(seconds, float)
    usual = np.median(durations / sizes) * sizes
    excess = durations - usual
    is_outlier = durations > _OUTLIER_FACTOR * usual + _OUTLIER_SECONDS
    return float(excess[is_outlier].sum())


def choose_repeated(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose, among `count` images, the indices of those to show a second time."""
    return rng.permutation(count)[:_REPEATED_IMAGES]


def count_different(
    first: NDArray[np.floating[Any]],
    repeated: NDArray[np.floating[Any]],
    all_scores: NDArray[np.floating[Any]],
) -> int:
    """Count the scores that changed sides of the threshold, or changed rank among all scores.

    Sides and ranks are what d′ and the area under the curve are made of. A tolerance in the scores'
    own units could be exploited, by making all scores tiny or a few of them huge.

    Args:
        first: scores of some images, `[n]`.
        repeated: scores of the same images when shown again, `[n]`.
        all_scores: scores of all images as they were first, `[m]`.
    """
    has_moved = np.abs(first - repeated) > _ROUNDING * np.abs(first)
    ranked = np.sort(all_scores)
    passed = np.abs(np.searchsorted(ranked, first) - np.searchsorted(ranked, repeated))
    has_new_rank = passed > max(_RANK_SHARE * len(ranked), _RANK_IMAGES)
    has_new_side = (first > 0) != (repeated > 0)
    return int((has_moved & (has_new_rank | has_new_side)).sum())
