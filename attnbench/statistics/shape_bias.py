"""Shape bias on pictures that have the shape of one category and the texture of another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnbench.statistics.consistency import Bools, Floats
from attnbench.statistics.intervals import Interval, percentile_interval


@dataclass(frozen=True)
class ShapeBias:
    """How often observers call a target present by its shape, and by its texture.

    Attributes:
        by_shape: the rate of "present" where only the shape is the target's, the mean over observers.
        by_texture: the same where only the texture is.
        bias: by_shape / (by_shape + by_texture), the mean over observers; None if undefined.
        interval: the 95 % interval of the bias over resampled pictures and observers; None if the bias
            is undefined.
        trials: the number of trials of each kind.
    """

    by_shape: float
    by_texture: float
    bias: float | None
    interval: Interval | None
    trials: tuple[int, int]


def shape_bias(
    decisions: Bools,
    shape: Bools,
    texture: Bools,
    pictures: NDArray[np.int64],
    *,
    known: Bools | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> ShapeBias:
    """Return the shape bias of one or several observers, each of whom detects several targets.

    Only trials count in which exactly one of shape and texture is the target's. With one target a
    picture and forced choice, this is the shape bias of Geirhos et al. (2019, arXiv 1811.12231). As
    rates are used and not numbers, it does not depend on how many trials there are of each kind.

    Args:
        decisions: bool `[m, n]`, whether each observer called the target of each trial present.
        shape, texture: bool `[n]`, whether the picture's shape, and its texture, is the target's.
        pictures: int `[n]`, the picture of each trial; pictures are resampled as a whole.
        known: bool `[m, n]`, whether the observer has answered; by default all have.
        replicates: number of bootstrap replicates.
        seed: of the random generator.

    Raises:
        ValueError: if there are no trials of one of the kinds.
    """
    kinds = (shape & ~texture, texture & ~shape)
    if not all(kind.any() for kind in kinds):
        raise ValueError("a shape bias needs trials with the target's shape and with its texture")
    _, numbers = np.unique(pictures, return_inverse=True)
    size = int(numbers.max()) + 1
    known = np.ones_like(decisions) if known is None else known

    def counts(of: Bools) -> Floats:
        """Return the number of trials of each kind, observer and picture, float `[2, m, size]`."""
        return np.array([[np.bincount(numbers, row & kind, size) for row in of] for kind in kinds])

    hits, trials = counts(decisions & known), counts(known)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(size, np.full(size, 1 / size), replicates).astype(np.float64)
    m = len(decisions)
    observers = rng.multinomial(m, np.full(m, 1 / m), replicates)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = hits.sum(axis=2) / trials.sum(axis=2)
        resampled = (hits @ drawn.T) / (trials @ drawn.T)
    replicate_biases = _mean_bias(resampled.transpose(0, 2, 1), observers.astype(np.float64))
    bias = float(_mean_bias(rates, np.ones(m)))
    defined = replicate_biases[~np.isnan(replicate_biases)]
    is_defined = not np.isnan(bias)
    return ShapeBias(
        by_shape=float(np.nanmean(rates[0])),
        by_texture=float(np.nanmean(rates[1])),
        bias=bias if is_defined else None,
        interval=percentile_interval(defined) if is_defined and len(defined) else None,
        trials=(int(kinds[0].sum()), int(kinds[1].sum())),
    )


def _mean_bias(rates: Floats, weights: Floats) -> Floats:
    """Return the weighted mean over observers `[...]` of the bias, given rates `[2, ..., m]`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        biases = rates[0] / (rates[0] + rates[1])
        known = np.where(np.isnan(biases), 0.0, weights)
        mean: Floats = (np.nan_to_num(biases) * known).sum(axis=-1) / known.sum(axis=-1)
    return mean
