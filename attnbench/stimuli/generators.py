"""What makes pictures harder: pure functions of pixels in [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def noise(
    images: NDArray[np.float32], sigma: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Additive Gaussian noise of luminance: x + sigma * n with n standard normal, not clipped.

    n is the same in all channels of a pixel, so that a grey picture stays grey.

    Args:
        images: float32 `[..., C, H, W]`, pixels in [0, 1].
        sigma: standard deviation in the same units.
        rng: where n is drawn from.

    Returns:
        float32 of the same shape.
    """
    *leading, _, height, width = images.shape
    drawn = rng.standard_normal((*leading, 1, height, width), dtype=np.float32)
    return images + np.float32(sigma) * drawn


def blend(
    images: NDArray[np.float32], others: NDArray[np.float32], alpha: float
) -> NDArray[np.float32]:
    """Alpha blending: alpha * a + (1 - alpha) * b, as two transparent pictures laid over each other.

    Luo, Roads & Love (2021), experiment 2, with alpha = 0.5 (they blended pixels from which the mean
    had been taken, which is the same).

    Args:
        images: float32 `[..., C, H, W]`, pixels in [0, 1]; `others`: of the same shape.
        alpha: share of `images`, 0 to 1.

    Returns:
        float32 of the same shape.
    """
    return np.float32(alpha) * images + np.float32(1 - alpha) * others


def fooled(
    answers: NDArray[np.int64],
    certainties: NDArray[np.floating[Any]],
    truths: NDArray[np.int64],
    confidence: float,
) -> NDArray[np.bool_]:
    """Adversarial filtration: which pictures a network gets wrong with confidence.

    ImageNet-A was made of photographs that a ResNet-50 gets wrong (Hendrycks et al. 2019,
    arXiv 1907.07174, section 3).

    Args:
        answers: the network's most probable label for each picture, int64 `[N]`.
        certainties: their probabilities, `[N]`.
        truths: the true labels, int64 `[N]`.
        confidence: the least probability of the wrong answer.

    Returns:
        bool `[N]`.
    """
    wrong: NDArray[np.bool_] = (answers != truths) & (certainties >= confidence)
    return wrong
