"""Error consistency: do two detectors err on the same images? Pure functions of decisions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


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


def kappas(said: Bools, known: Bools) -> NDArray[np.float64]:
    """Kappa of every two of m detectors, `[m, m]`, each pair on the images that both have decided.

    As `consistency` has it, without an interval; NaN where it is not defined.

    Args:
        said: bool `[m, n]`, whether each said "present".
        known: bool `[m, n]`, whether it has decided at all.
    """
    present, decided = (said & known).astype(np.float64), known.astype(np.float64)
    both = present @ present.T
    only_first = present @ decided.T - both
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.stack([both, only_first, only_first.T]) / (decided @ decided.T)
        return _kappa(shares)


def _kappa(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the shares `[3, ...]` of images that both, only the first, only the second call present."""
    both, only_first, only_second = shares
    p, q = both + only_first, both + only_second
    agreed = 1 - only_first - only_second
    expected = p * q + (1 - p) * (1 - q)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[np.float64] = np.where(
            1 - expected > 1e-12, (agreed - expected) / (1 - expected), np.nan
        )
    return found
