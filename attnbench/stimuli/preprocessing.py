"""From a decoded picture to the image that a backbone takes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from attnbench.backbones.backbone import Preprocessing

# A decoded picture, `[3, h, w]`, before scaling and normalisation.
Picture = NDArray[np.uint8]
# Images `[..., 3, H, W]`, scaled to [0, 1] or normalised.
Images = NDArray[np.float32]


def resize_and_crop(picture: Picture, preprocessing: Preprocessing) -> Picture:
    """Resize a picture's shorter side (antialiased), then crop its centre.

    Args:
        picture: uint8 `[3, h, w]`.
        preprocessing: `resize` is the length of the shorter side, `size` that of the crop, and
            `interpolation` is `bilinear` or `bicubic`.

    Returns:
        uint8 `[3, size, size]`; `picture` itself if it already has that size.
    """
    if (
        picture.shape[1:] == (preprocessing.size,) * 2
        and preprocessing.resize == preprocessing.size
    ):
        return picture
    height, width = picture.shape[1:]
    shorter = min(height, width)
    # torchvision's `resize` makes this very call for tensors. It is made directly, because importing
    # torchvision takes two seconds.
    resized = interpolate(
        torch.from_numpy(np.ascontiguousarray(picture))[None],
        (preprocessing.resize * height // shorter, preprocessing.resize * width // shorter),
        mode=preprocessing.interpolation,
        antialias=True,
    )[0]
    top, left = (round((length - preprocessing.size) / 2) for length in resized.shape[1:])
    cropped: Picture = resized[
        :, top : top + preprocessing.size, left : left + preprocessing.size
    ].numpy()
    return cropped


def in_unit_range(pixels: NDArray[np.uint8]) -> Images:
    """Convert uint8 pixels to float32 in [0, 1], in the same shape."""
    images: Images = np.divide(pixels, np.float32(255), dtype=np.float32)
    return images


def normalise(images: Images, preprocessing: Preprocessing, out: Images | None = None) -> Images:
    """Normalise images to (pixel - mean) / std per channel.

    Args:
        images: float32 `[..., 3, H, W]`, pixels in [0, 1]. Overwritten, as it holds the intermediate
            result.
        preprocessing: the backbone's mean and standard deviation.
        out: where the result is written, in the same shape; `images` by default. Only finished
            values are ever written to it, as it may be memory that another process reads.

    Returns:
        `out`, or `images`.
    """
    mean, std = (
        np.array(values, np.float32)[:, None, None]
        for values in (preprocessing.mean, preprocessing.std)
    )
    np.subtract(images, mean, out=images)
    return np.divide(images, std, out=images if out is None else out)
