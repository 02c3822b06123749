"""What an adaptation amplifies: gains of channels, and where in the image. Pure functions of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from attnbench.statistics.detection import detect
from attnbench.statistics.intervals import Floats


def channel_sensitivities(
    responses: NDArray[np.floating[Any]], present: NDArray[np.bool_]
) -> Floats:
    """Return d_a of each channel's response as a detector of the target, `[c]`.

    Args:
        responses: float `[n, c]`, each channel's response to each image.
        present: bool `[n]`, whether the target is in the image.
    """
    return np.array([detect(response, present).d_a for response in responses.T])


def rank_correlation(first: Floats, second: Floats) -> tuple[float, float, float]:
    """Return Spearman's rank correlation and its 95 % interval.

    The interval is that of Fisher's z with the variance (1 + r^2 / 2) / (n - 3) of Bonett & Wright
    (2000, Psychometrika 65, 23-28).

    Args:
        first, second: float `[n]`. Pairs with a value that is not finite are left out.

    Returns:
        The correlation, and the lower and upper end; NaN if all values are equal or fewer than four
        pairs are left.
    """
    finite = np.isfinite(first) & np.isfinite(second)
    count = int(finite.sum())
    ranks = [rankdata(values[finite]) for values in (first, second)]
    if count < 4 or any(np.ptp(values) == 0 for values in ranks):
        return float("nan"), float("nan"), float("nan")
    r = float(np.corrcoef(*ranks)[0, 1])
    if abs(r) > 1 - 1e-12:
        return r, r, r
    half = float(ndtri(0.975)) * np.sqrt((1 + r**2 / 2) / (count - 3))
    return r, float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half))


def share_inside(maps: NDArray[np.floating[Any]], masks: NDArray[np.floating[Any]]) -> Floats:
    """Return the share of each map that is inside its mask, `[n]`; NaN for a map that is 0.

    Args:
        maps: non-negative, float `[n, h, w]`.
        masks: float `[n, h, w]`, the share of each cell that is inside, from 0 to 1.
    """
    totals = maps.sum(axis=(1, 2), dtype=np.float64)
    inside = (maps * masks).sum(axis=(1, 2), dtype=np.float64)
    shares: Floats = np.divide(inside, totals, out=np.full(len(maps), np.nan), where=totals > 0)
    return shares
