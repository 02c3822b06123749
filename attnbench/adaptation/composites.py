"""Merged images and arrays, made from ordinary images (Lindsay & Miller 2018, eLife 7:e38105)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def merged(pos: Tensor, neg: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Return merged images, whose pixels are the means of those of two images.

    A positive is a positive merged with a negative, and a negative is two merged negatives.

    Args:
        pos, neg: images `[n, 3, h, w]`.
        limit: the largest number of merged positives, and of merged negatives.

    Returns:
        Positives and negatives, `[k, 3, h, w]` each.
    """
    with_target, without = pairs(len(pos), len(neg), limit), pairs_of_one(len(neg), limit)
    return (
        (pos[with_target[0]] + neg[with_target[1]]) / 2,
        (neg[without[0]] + neg[without[1]]) / 2,
    )


def arrays(pos: Tensor, neg: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Return arrays, 2 x 2 grids of four images at half their width and height.

    A positive has a positive in one of the four places, and negatives in the others. A negative has
    four negatives. Arguments and results are those of `merged`.
    """

    def grids(first: Tensor, others: Tensor) -> Tensor:
        cells = torch.stack([first, *(neg[(others + k) % len(neg)] for k in range(3))], dim=1)
        # The first image goes around the four places.
        row = torch.arange(len(first))[:, None]
        return grid(cells[row, (row + torch.arange(4)) % 4])

    with_target, without = pairs(len(pos), len(neg), limit), pairs_of_one(len(neg), limit)
    return grids(pos[with_target[0]], with_target[1]), grids(neg[without[0]], without[1])


def grid(cells: Tensor) -> Tensor:
    """Arrange four images in a square of the same size as each: `[n, 4, 3, h, w]` to `[n, 3, h, w]`.

    A pixel of a cell is the mean of the pixels that it covers.
    """
    height, width = cells.shape[-2:]
    top, left = height // 2, width // 2
    sizes = [(h, w) for h in (top, height - top) for w in (left, width - left)]
    a, b, c, d = (interpolate(cells[:, k], size, mode="area") for k, size in enumerate(sizes))
    return torch.cat([torch.cat([a, b], dim=3), torch.cat([c, d], dim=3)], dim=2)


def pairs(first: int, second: int, limit: int) -> tuple[Tensor, Tensor]:
    """Return the row numbers of up to `limit` pairs of one of `first` and one of `second` rows.

    No pair occurs twice, and all rows of the first kind are in equally many pairs, give or take one.
    """
    number = torch.arange(min(first * second, limit))
    row, shift = number % first, number // first
    return row, (row + shift) % second


def pairs_of_one(count: int, limit: int) -> tuple[Tensor, Tensor]:
    """Return the row numbers of up to `limit` pairs of `count` rows. A single row is a pair."""
    number = torch.arange(max(1, min(count * (count - 1) // 2, limit)))
    row, shift = number % count, number // count + 1
    return row, (row + shift) % count
