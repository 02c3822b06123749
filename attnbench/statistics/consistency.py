"""Error consistency: do two detectors err on the same images? Pure functions of decisions."""

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
        kappa: None where it is not defined: where both decide alike on every image by their rates
            alone, no agreement is more than chance.
        low, high: 95 % interval over images drawn anew; None where kappa is.
        largest: the kappa that two detectors of these rates could reach at most.
        images: how many decisions were compared.
    """

    kappa: float | None
    low: float | None
    high: float | None
    largest: float | None
    images: int


def consistency(
    first: Bools, second: Bools, *, replicates: int = 2000, seed: int = 0
) -> Consistency:
    """Kappa of two detectors on the same images, either all with the target or all without.

    kappa = (o - e) / (1 - e), o the share of images on which they agree, e = p q + (1 - p)(1 - q) the
    share expected of independent detectors that say "present" as often as these, p and q (Cohen 1960;
    Geirhos, Meding & Wichmann 2020, arXiv 2006.16736). Among images of one kind to agree in the
    decision is to agree in being right. o can be 1 - |p - q| at most.

    Args:
        first, second: bool `[n]`, whether each said "present".

    Raises:
        ValueError: for no images, or different ones.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"decisions {first.shape} and {second.shape} must be of the same images")
    n = len(first)
    counts = np.array([(first & second).sum(), (first & ~second).sum(), (~first & second).sum()])
    both, only_first, only_second = (float(count) / n for count in counts)
    kappa = float(_kappa(np.array([both, only_first, only_second])))
    if np.isnan(kappa):
        return Consistency(None, None, None, None, n)
    p, q = both + only_first, both + only_second
    expected = p * q + (1 - p) * (1 - q)
    rates = np.array([both, only_first, only_second, max(0.0, 1 - both - only_first - only_second)])
    drawn = np.random.default_rng(seed).multinomial(n, rates / rates.sum(), replicates) / n
    low, high = np.nanquantile(_kappa(drawn[:, :3].T), [0.025, 0.975])
    largest = (1 - abs(p - q) - expected) / (1 - expected)
    return Consistency(kappa, float(low), float(high), float(largest), n)


@dataclass(frozen=True)
class Consistencies:
    """Of every two of m detectors, `[m, m]` each; NaN where kappa is not defined.

    Attributes:
        kappa, low, high, largest: as `Consistency` has them.
        images: how many both have decided.
    """

    kappa: Floats
    low: Floats
    high: Floats
    largest: Floats
    images: NDArray[np.int64]


def consistencies(said: Bools, known: Bools) -> Consistencies:
    """Kappa of every two of m detectors, each pair on the images that both have decided.

    As `consistency` has it, but for the 95 % intervals: kappa +- z times its large-sample error, within
    -1 and 1 (Fleiss, Cohen & Everitt 1969, Psychological Bulletin 72, 323-327), since there are many.

    Args:
        said: bool `[m, n]`, whether each said "present".
        known: bool `[m, n]`, whether it has decided at all.
    """
    present, decided = (said & known).astype(np.float64), known.astype(np.float64)
    images, both = decided @ decided.T, present @ present.T
    only_first = present @ decided.T - both
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.stack([both, only_first, only_first.T]) / images
        kappa = _kappa(shares)
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
        largest = np.where(np.isnan(kappa), np.nan, (1 - abs(p - q) - expected) / (1 - expected))
    low, high = np.maximum(kappa - half, -1), np.minimum(kappa + half, 1)
    return Consistencies(kappa, low, high, largest, images.astype(np.int64))


def _kappa(shares: Floats) -> Floats:
    """From the shares `[3, ...]` of images that both, only the first, only the second call present."""
    both, only_first, only_second = shares
    p, q = both + only_first, both + only_second
    agreed = 1 - only_first - only_second
    expected = p * q + (1 - p) * (1 - q)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = np.where(1 - expected > 1e-12, (agreed - expected) / (1 - expected), np.nan)
    return found
