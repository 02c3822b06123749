"""What prediction may cost and depend on: pure functions of times and scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Prediction may take so many of the backbone's forwards over the same images, and so many seconds
# more: a detector that looks many times is welcome, one that trains while it predicts is not.
FORWARDS, GRACE_SECONDS = 20.0, 5.0
# A batch that takes so many times what its images usually take, and so much longer, did something else.
# (The first of a process takes 10 to 40 ms longer, whatever the detector, for threads and kernels.)
_USUAL_SPREAD, _NOTICEABLE_SECONDS = 3.0, 0.05
# So many images are shown again, to a fresh process, in batches of another size.
_SHOWN_AGAIN = 24
# Of those so many may be others: kernels for batches of different sizes round differently, and near
# the threshold that may turn a sign.
MAY_DIFFER = 2
# A score that moved by no more than this part of itself is rounded otherwise; one that passes no more
# than this share of all images, or so many, has not moved.
_ROUNDING, _SHARE_PASSED, _IMAGES_PASSED = 1e-5, 0.02, 2


def budget_seconds(pass_seconds: float, pass_images: int, images: int) -> float:
    """How long the prediction of `images` may take, loading included."""
    return FORWARDS * pass_seconds * images / pass_images + GRACE_SECONDS


def deferred_seconds(images: Sequence[int], seconds: Sequence[float]) -> float:
    """The time of a prediction that went into something else than looking at images.

    Adaptation put off to the first image, or to any other, shows as a batch that takes longer than
    its images usually do. Small excesses are the machine's and count for nothing.

    Args:
        images: how many were in each batch.
        seconds: what each batch took.
    """
    sizes, taken = np.array(images, float), np.array(seconds, float)
    usual = np.median(taken / sizes) * sizes
    excess = taken - usual
    noticeable = taken > _USUAL_SPREAD * usual + _NOTICEABLE_SECONDS
    return float(excess[noticeable].sum())


def choose_again(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The images, by their index among `count`, to be shown a second time."""
    return rng.permutation(count)[:_SHOWN_AGAIN]


def disagreeing(
    first: NDArray[np.floating[Any]],
    again: NDArray[np.floating[Any]],
    everyone: NDArray[np.floating[Any]],
) -> int:
    """How many scores `[n]` are on the other side of the threshold, or elsewhere among all the others.

    That is what d′ and the area under the curve are made of. A tolerance in the scores' own units could
    be hidden in: by scores that are all small, or by few that are very large.

    Args:
        first, again: scores of the same images.
        everyone: scores of all images `[m]`, as they were first.
    """
    moved = np.abs(first - again) > _ROUNDING * np.abs(first)
    ranked = np.sort(everyone)
    passed = np.abs(np.searchsorted(ranked, first) - np.searchsorted(ranked, again))
    elsewhere = passed > max(_SHARE_PASSED * len(ranked), _IMAGES_PASSED)
    return int((moved & (elsewhere | ((first > 0) != (again > 0)))).sum())
