"""Error consistency, Cohen's kappa between detectors: pure functions of decisions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
_Z = float(ndtri(0.975))


@dataclass(frozen=True)
class Consistency:
    """Cohen's kappa of two detectors' decisions on the same images.

    Attributes:
        kappa: None if it is undefined: if the rates alone imply that the two agree on every image.
        low, high: 95 % interval over resampled images; None if kappa is.
        largest: the largest kappa that two detectors with these rates can reach; None if kappa is.
        images: number of compared decisions.
    """

    kappa: float | None
    low: float | None
    high: float | None
    largest: float | None
    images: int


def consistency(
    first: Bools, second: Bools, *, replicates: int = 2000, seed: int = 0
) -> Consistency:
    """Return kappa of two detectors on the same images, all with the target or all without it.

    kappa = (o - e) / (1 - e). o is the fraction of images on which the two agree.
    e = p q + (1 - p)(1 - q) is the agreement expected of independent detectors that call a fraction p
    and q of the images present (Cohen 1960; Geirhos, Meding & Wichmann 2020, arXiv 2006.16736).
    Among images of one class, detectors that agree are both right or both wrong. o is at most
    1 - |p - q|.

    Args:
        first, second: bool `[n]`, whether each detector called the image present.
        replicates: number of bootstrap replicates for the interval.
        seed: of the random generator.

    Raises:
        ValueError: if there are no images, or the shapes differ.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(
            f"decisions {first.shape} and {second.shape} must be [n], of the same images"
        )
    n = len(first)
    counts = np.array([(first & second).sum(), (first & ~second).sum(), (~first & second).sum()])
    both, only_first, only_second = (float(count) / n for count in counts)
    shares = np.array([both, only_first, only_second])
    kappa = float(kappa_of_shares(shares))
    if np.isnan(kappa):
        return Consistency(None, None, None, None, n)
    # Rounding can leave the share of images that neither calls present just below 0.
    rates = np.array([both, only_first, only_second, max(0.0, 1 - both - only_first - only_second)])
    drawn = np.random.default_rng(seed).multinomial(n, rates / rates.sum(), replicates) / n
    low, high = np.nanquantile(kappa_of_shares(drawn[:, :3].T), [0.025, 0.975])
    return Consistency(kappa, float(low), float(high), float(largest_kappa_of_shares(shares)), n)


@dataclass(frozen=True)
class ConsistencyMatrix:
    """Error consistency of every pair of m detectors, `[m, m]` each; NaN where kappa is undefined.

    Attributes:
        kappa, low, high, largest: float, as in `Consistency`.
        images: int, number of images that both detectors decided on.
    """

    kappa: Floats
    low: Floats
    high: Floats
    largest: Floats
    images: NDArray[np.int64]


def consistency_matrix(decisions: Bools, decided: Bools) -> ConsistencyMatrix:
    """Return kappa of every pair of m detectors, on the images that both decided on.

    Values are those of `consistency` except for the 95 % intervals. These are kappa +- z times its
    large-sample standard error, clipped to [-1, 1] (Fleiss, Cohen & Everitt 1969, Psychological
    Bulletin 72, 323-327), because a bootstrap of every pair would take too long.

    Args:
        decisions: bool `[m, n]`, whether each detector called the image present.
        decided: bool `[m, n]`, whether the detector has a decision for the image.
    """
    present, known = (decisions & decided).astype(np.float64), decided.astype(np.float64)
    images, both = known @ known.T, present @ present.T
    only_first = present @ known.T - both
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.stack([both, only_first, only_first.T]) / images
        kappa = kappa_of_shares(shares)
        both, only_first, only_second = shares
        p, q = both + only_first, both + only_second
        expected = p * q + (1 - p) * (1 - q)
        agreed, neither = 1 - only_first - only_second, 1 - both - only_first - only_second
        variance = (
            both * (1 - expected - (p + q) * (1 - agreed)) ** 2
            + neither * (1 - expected - (2 - p - q) * (1 - agreed)) ** 2
            + (1 - agreed) ** 2 * (only_first * (q + 1 - p) ** 2 + only_second * (p + 1 - q) ** 2)
            - (agreed * expected - 2 * expected + agreed) ** 2
        )
        half = _Z * np.sqrt(np.maximum(variance, 0) / images) / (1 - expected) ** 2
        largest = largest_kappa_of_shares(shares)
    low, high = np.maximum(kappa - half, -1), np.minimum(kappa + half, 1)
    return ConsistencyMatrix(kappa, low, high, largest, images.astype(np.int64))


def kappa_of_shares(shares: Floats) -> Floats:
    """Return kappa `[...]` (see `consistency`), NaN where it is undefined.

    Args:
        shares: float `[3, ...]`, fractions of images called present by both detectors, only by the
            first, and only by the second.
    """
    both, only_first, only_second = shares
    p, q = both + only_first, both + only_second
    agreed = 1 - only_first - only_second
    expected = p * q + (1 - p) * (1 - q)
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa: Floats = np.where(1 - expected > 1e-12, (agreed - expected) / (1 - expected), np.nan)
    return kappa


def largest_kappa_of_shares(shares: Floats) -> Floats:
    """Return the largest kappa `[...]` that observers with these rates can reach; NaN where undefined.

    Args:
        shares: as for `kappa_of_shares`.
    """
    both, only_first, only_second = shares
    p, q = both + only_first, both + only_second
    expected = p * q + (1 - p) * (1 - q)
    with np.errstate(invalid="ignore", divide="ignore"):
        largest: Floats = np.where(
            1 - expected > 1e-12, (1 - abs(p - q) - expected) / (1 - expected), np.nan
        )
    return largest
