"""Stimulus generators: pure functions that make pictures harder, on pixels in [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def noise(
    images: NDArray[np.float32], sigma: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Add Gaussian luminance noise: x + sigma * n, with n standard normal.

    All channels of a pixel get the same n, so a grey picture stays grey. The result is not clipped.

    Args:
        images: float32 `[..., C, H, W]`, pixels in [0, 1].
        sigma: the standard deviation, in the same units.
        rng: the generator that n is drawn from.

    Returns:
        float32 of the same shape.
    """
    *leading, _, height, width = images.shape
    standard_noise = rng.standard_normal((*leading, 1, height, width), dtype=np.float32)
    return images + np.float32(sigma) * standard_noise


def blend(
    images: NDArray[np.float32], partners: NDArray[np.float32], alpha: float
) -> NDArray[np.float32]:
    """Blend images with partners: alpha * image + (1 - alpha) * partner.

    Experiment 2 of Luo, Roads & Love (2021, doi:10.1007/s42113-021-00098-y), who use alpha = 0.5. They
    blend pixels after subtracting the mean, which gives the same result.

    Args:
        images: float32 `[..., C, H, W]`, pixels in [0, 1].
        partners: float32 of the same shape.
        alpha: the weight of `images`, from 0 to 1.

    Returns:
        float32 of the same shape.
    """
    return np.float32(alpha) * images + np.float32(1 - alpha) * partners


def misclassified(
    predictions: NDArray[np.int64],
    probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.int64],
    confidence: float,
) -> NDArray[np.bool_]:
    """Return which pictures a network gets wrong with confidence (adversarial filtration).

    ImageNet-A consists of photographs that a ResNet-50 gets wrong (Hendrycks et al. 2019,
    arXiv 1907.07174, section 3).

    Args:
        predictions: the network's most probable label for each picture, int64 `[N]`.
        probabilities: the probability of each prediction, `[N]`.
        labels: the true labels, int64 `[N]`.
        confidence: the minimum probability of a wrong prediction.

    Returns:
        bool `[N]`.
    """
    wrong: NDArray[np.bool_] = (predictions != labels) & (probabilities >= confidence)
    return wrong
