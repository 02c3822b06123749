"""How long a detector may take to predict, and what its scores may depend on.

All functions are pure functions of times and scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The budget for prediction: the time of this many forward passes of the backbone over the images, plus
# this many seconds. A detector may look at an image many times, but must not train meanwhile.
PASSES, GRACE_SECONDS = 20.0, 5.0
PREDICTION_LIMIT = (
    f"a detector may take {PASSES:g} forward passes of the backbone over the images, and "
    f"{GRACE_SECONDS:g} s: train in adapt"
)
# A batch is an outlier if it takes longer than this factor times the usual time for its size, plus
# this many seconds. (The first batch of any process takes 10 to 40 ms longer than later ones, because
# threads start and kernels are created.)
_OUTLIER_FACTOR, _OUTLIER_SECONDS = 3.0, 0.05
# How many images are shown again, to a fresh process, in batches of another size.
_REPEATED_IMAGES = 24
# How many of their scores may differ. Kernels for another batch size round differently, which can
# change the sign of a score near the threshold.
MAX_DIFFERENT = 2
# A relative change of at most this size is rounding. A score keeps its rank if it moves past at most
# this share of all images, or past at most this many images.
_ROUNDING, _RANK_SHARE, _RANK_IMAGES = 1e-5, 0.02, 2


def budget_seconds(pass_seconds: float, pass_images: int, images: int) -> float:
    """Return the most seconds that prediction may take, loading the detector included.

    Args:
        pass_seconds: the duration of a forward pass of the backbone over `pass_images` images.
        pass_images: the number of images in that pass.
        images: the number of images to predict.
    """
    return PASSES * pass_seconds * images / pass_images + GRACE_SECONDS


def deferred_seconds(images: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the seconds of a prediction that were not spent on its images.

    If an adaptation defers work until prediction, a batch takes far longer than batches of its size
    usually do. Small excesses are noise and count as zero.

    Args:
        images: the number of images in each batch.
        seconds: the duration of each batch.
    """
    sizes, durations = np.array(images, float), np.array(seconds, float)
    usual = np.median(durations / sizes) * sizes
    excess = durations - usual
    is_outlier = durations > _OUTLIER_FACTOR * usual + _OUTLIER_SECONDS
    return float(excess[is_outlier].sum())


def choose_repeated(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose the images to show a second time.

    Args:
        count: the number of test images.
        rng: the generator to draw with.

    Returns:
        Their indices, int64 `[k]`.
    """
    return rng.permutation(count)[:_REPEATED_IMAGES]


def count_different(
    first: NDArray[np.floating[Any]],
    repeated: NDArray[np.floating[Any]],
    all_scores: NDArray[np.floating[Any]],
) -> int:
    """Count the scores that changed sides of the threshold, or changed rank among all scores.

    d′ depends only on sides, and the area under the curve only on ranks. A tolerance in the scores'
    own units could be exploited, by making all scores tiny or a few of them huge.

    Args:
        first: scores of some images, `[n]`.
        repeated: scores of the same images when shown again, `[n]`.
        all_scores: scores of all images, each as it was first, `[m]`.
    """
    has_moved = np.abs(first - repeated) > _ROUNDING * np.abs(first)
    ranked = np.sort(all_scores)
    passed = np.abs(np.searchsorted(ranked, first) - np.searchsorted(ranked, repeated))
    has_new_rank = passed > max(_RANK_SHARE * len(ranked), _RANK_IMAGES)
    has_new_side = (first > 0) != (repeated > 0)
    return int((has_moved & (has_new_rank | has_new_side)).sum())
