"""What makes pictures harder: pure functions of pixels in [0, 1]."""

from __future__ import annotations

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
