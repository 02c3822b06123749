"""What makes pictures harder: pure functions of pixels in [0, 1]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def noise(
    images: NDArray[np.float32], sigma: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Additive Gaussian noise: x + sigma * n with n standard normal, not clipped.

    Args:
        images: float32 of any shape, pixels in [0, 1].
        sigma: standard deviation in the same units.
        rng: where n is drawn from.

    Returns:
        float32 of the same shape.
    """
    return images + np.float32(sigma) * rng.standard_normal(images.shape, dtype=np.float32)
