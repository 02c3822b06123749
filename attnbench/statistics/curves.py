"""Learning curves: sensitivity against the number of images, or against a budget.

Pure functions of arrays. The replicates are the targets: intervals of means are Student's t over
targets, the others are percentile intervals of a bootstrap over targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from attnbench.statistics.intervals import Floats, mean_interval, percentile_interval

# The share of the best sensitivity that `CurveSummary.needed` refers to.
SHARE = 0.9
_REPLICATES = 2000


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CurveSummary:
    """What a learning curve comes to.

    Attributes:
        area: the mean d_a over the curve, with log2 of its abscissa as the measure: the area under
            the curve divided by its width.
        needed: the abscissa from which the mean curve stays at 90 % of its best d_a or above,
            interpolated in log2.
        lag: the generalisation lag: the AUC on the images adapted on minus that on held-out images,
            at the same abscissa, averaged like `area` (Huber, Mast & Wichmann 2024). It is in terms
            of the AUC, which has no bias however few images there are; d_a of a few images has.
        peak: the abscissa at which the mean lag is largest.
    """

    area: Estimate
    needed: Estimate
    lag: Estimate
    peak: Estimate


def summarise_curve(abscissa: Floats, d_a: Floats, lag: Floats, seed: int = 0) -> CurveSummary:
    """Summarise a learning curve.

    Args:
        abscissa: float `[k]`, ascending and positive: numbers of images, or a budget.
        d_a: float `[n, k]`, of each of n targets on held-out images.
        lag: float `[n, k]`, the AUC on the images adapted on minus that on held-out images.
        seed: of the bootstrap.

    Raises:
        ValueError: if the abscissa is not ascending and positive, or the shapes differ.
    """
    abscissa = np.asarray(abscissa, float)
    if abscissa.ndim != 1 or abscissa[0] <= 0 or (np.diff(abscissa) <= 0).any():
        raise ValueError("the abscissa must be positive and ascending")
    if d_a.shape != lag.shape or d_a.shape[1:] != abscissa.shape:
        raise ValueError(f"shapes {d_a.shape}, {lag.shape} and {abscissa.shape} do not fit")
    targets = len(d_a)
    drawn = np.random.default_rng(seed).integers(targets, size=(_REPLICATES, targets))
    curves, lags = d_a[drawn].mean(axis=1), lag[drawn].mean(axis=1)
    return CurveSummary(
        area=mean_estimate(mean_height(abscissa, d_a)),
        needed=_bootstrapped(
            needed_for_share(abscissa, d_a.mean(axis=0)),
            np.array([needed_for_share(abscissa, curve) for curve in curves]),
        ),
        lag=mean_estimate(mean_height(abscissa, lag)),
        peak=_bootstrapped(
            float(abscissa[lag.mean(axis=0).argmax()]), abscissa[lags.argmax(axis=1)]
        ),
    )


def mean_estimate(values: Floats) -> Estimate:
    """Return the mean of values `[n]` with Student's t interval."""
    return Estimate(float(values.mean()), *mean_interval(values))


def mean_height(abscissa: Floats, values: Floats) -> Floats:
    """Return the mean of curves over log2 of the abscissa, by the trapezoidal rule, `[n]`.

    Args:
        abscissa: float `[k]`, ascending and positive.
        values: float `[n, k]`. A curve of a single point has that point's value.
    """
    positions = np.log2(abscissa)
    if len(positions) == 1:
        return np.asarray(values[:, 0])
    return np.asarray(trapezoid(values, positions) / np.ptp(positions))


def needed_for_share(abscissa: Floats, curve: Floats, share: float = SHARE) -> float:
    """Return the abscissa from which a curve stays at a share of its maximum or above.

    Between points the curve is linear in log2 of the abscissa.

    Args:
        abscissa: float `[k]`, ascending and positive.
        curve: float `[k]`, the mean over targets.
        share: of the maximum.

    Returns:
        The first abscissa if the whole curve is that high, and the last one if its end is not:
        then the curve has fallen. NaN if no point is above 0.
    """
    best = curve.max()
    if not best > 0:
        return float("nan")
    (below,) = np.nonzero(curve < share * best)
    if not len(below):
        return float(abscissa[0])
    last = below[-1]
    if last == len(curve) - 1:
        return float(abscissa[-1])
    position = np.interp(share * best, curve[[last, last + 1]], np.log2(abscissa[[last, last + 1]]))
    return float(2**position)


def _bootstrapped(value: float, replicates: NDArray[np.floating[Any]]) -> Estimate:
    finite = replicates[np.isfinite(replicates)]
    if not len(finite):
        return Estimate(value, float("nan"), float("nan"))
    return Estimate(value, *percentile_interval(finite))
