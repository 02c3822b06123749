"""From a decoded picture to what a backbone takes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from attnbench.backbones.backbone import Preprocessing

Picture = NDArray[np.uint8]
Images = NDArray[np.float32]


def resize_and_crop(picture: Picture, preprocessing: Preprocessing) -> Picture:
    """Shorter side to `resize` (bilinear, antialiased), centre `size` x `size`: uint8 `[3, s, s]`."""
    if (
        picture.shape[1:] == (preprocessing.size,) * 2
        and preprocessing.resize == preprocessing.size
    ):
        return picture
    height, width = picture.shape[1:]
    shorter = min(height, width)
    # torchvision's `resize` on tensors is this very call; importing torchvision takes two seconds
    resized = interpolate(
        torch.from_numpy(np.ascontiguousarray(picture))[None],
        (preprocessing.resize * height // shorter, preprocessing.resize * width // shorter),
        mode="bilinear",
        antialias=True,
    )[0]
    top, left = (round((side - preprocessing.size) / 2) for side in resized.shape[1:])
    cropped: Picture = resized[
        :, top : top + preprocessing.size, left : left + preprocessing.size
    ].numpy()
    return cropped


def in_unit_range(pixels: NDArray[np.uint8]) -> Images:
    """uint8 to float32 in [0, 1]."""
    images: Images = np.divide(pixels, np.float32(255), dtype=np.float32)
    return images


def normalise(images: Images, preprocessing: Preprocessing, out: Images | None = None) -> Images:
    """(pixel - mean) / std per channel, float32 `[..., 3, H, W]`.

    Args:
        images: pixels in [0, 1]; overwritten.
        preprocessing: the backbone's.
        out: where the result goes, and nothing but it; by default to `images`.
    """
    mean, std = (
        np.array(values, np.float32)[:, None, None]
        for values in (preprocessing.mean, preprocessing.std)
    )
    np.subtract(images, mean, out=images)
    return np.divide(images, std, out=images if out is None else out)
