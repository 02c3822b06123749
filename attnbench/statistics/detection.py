"""Signal-detection measures from decision scores: pure functions of arrays.

A score above 0 means "present". z is the inverse of the standard normal distribution function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from attnbench.statistics.measures import Counts, Detection


def detect(scores: NDArray[np.floating[Any]], present: NDArray[np.bool_]) -> Detection:
    """Return all measures of one set of scores.

    Args:
        scores: decision scores `[n]`, finite.
        present: bool `[n]`, whether the target is in the image.

    Raises:
        ValueError: if one class is empty or the shapes differ.
    """
    counts = count(scores, present)
    return detection_of(roc(scores, present), counts)


@dataclass(frozen=True)
class Roc:
    """An ROC curve: the counts at every threshold, from the strictest to the most lenient.

    Equal scores share a threshold. The first threshold is above all scores, the last below all.

    Attributes:
        hits, false_alarms: int `[thresholds]`, cumulative counts.
    """

    hits: NDArray[np.int64]
    false_alarms: NDArray[np.int64]

    @property
    def area(self) -> float:
        """The AUC: the fraction of (positive, negative) pairs in the right order, ties counting half.

        This is the Mann-Whitney statistic divided by the number of pairs.
        """
        steps = self.false_alarms[1:] - self.false_alarms[:-1]
        pairs = (steps @ (self.hits[1:] + self.hits[:-1])) / 2
        return float(pairs) / (int(self.hits[-1]) * int(self.false_alarms[-1]))

    def hit_rates(self, false_alarm_rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the largest hit rate at each false-alarm rate, interpolated linearly.

        Args:
            false_alarm_rates: float `[k]`.

        Returns:
            float `[k]`.
        """
        # Several thresholds can have the same number of false alarms, where the curve is vertical.
        # The last of them is the lowest threshold and has the most hits.
        best = np.concatenate((self.false_alarms[1:] != self.false_alarms[:-1], [True]))
        hit_rates: NDArray[np.float64] = np.interp(
            false_alarm_rates,
            self.false_alarms[best] / self.false_alarms[-1],
            self.hits[best] / self.hits[-1],
        )
        return hit_rates


def roc(scores: NDArray[np.floating[Any]], present: NDArray[np.bool_]) -> Roc:
    """Return the ROC curve of scores `[n]`; the arguments are those of `detect`.

    Raises:
        ValueError: if one class is empty.
    """
    if not present.any() or present.all():
        raise ValueError("an ROC curve needs at least one positive and one negative")
    order = np.argsort(-scores)
    ordered = scores[order]
    last = np.concatenate((np.flatnonzero(ordered[1:] != ordered[:-1]), [len(ordered) - 1]))
    hits = np.cumsum(present[order])[last]
    return Roc(np.concatenate(([0], hits)), np.concatenate(([0], last + 1 - hits)))


def detection_of(curve: Roc, counts: Counts) -> Detection:
    """Return all measures, given the ROC curve and the counts at the detector's own threshold."""
    hit_rate, false_alarm_rate = rates(counts)
    z_hit, z_false_alarm = ndtri(hit_rate), ndtri(false_alarm_rate)
    area = curve.area
    return Detection(
        counts=counts,
        hit_rate=hit_rate,
        false_alarm_rate=false_alarm_rate,
        d_prime=float(z_hit - z_false_alarm),
        criterion=float(-(z_hit + z_false_alarm) / 2),
        auc=area,
        d_a=float(d_a(area, counts.positives, counts.negatives)),
    )


def count(scores: NDArray[np.floating[Any]], present: NDArray[np.bool_]) -> Counts:
    """Count hits and false alarms at threshold 0; the arguments are those of `detect`.

    Raises:
        ValueError: if one class is empty or the shapes differ.
    """
    if scores.shape != present.shape or scores.ndim != 1:
        raise ValueError(f"scores {scores.shape} and present {present.shape} must both be [n]")
    called_present = scores > 0
    return Counts(
        hits=int((called_present & present).sum()),
        positives=int(present.sum()),
        false_alarms=int((called_present & ~present).sum()),
        negatives=int((~present).sum()),
    )


def pool(counts: Sequence[Counts]) -> Counts:
    """Return the counts of several targets, or seeds, taken together.

    The correction inflates d' where positives are few. `d_prime(pool(counts))` corrects the rates of
    all targets at once, so it is inflated no more than one target with as many images. It weights
    targets by their images, and is below the mean of the targets' own d' where their criteria differ.
    There is no pooled d_a, as the scores of different targets have no common scale.

    Args:
        counts: the counts of each target.

    Raises:
        ValueError: if there are none.
    """
    return Counts(
        hits=sum(one.hits for one in counts),
        positives=sum(one.positives for one in counts),
        false_alarms=sum(one.false_alarms for one in counts),
        negatives=sum(one.negatives for one in counts),
    )


def rates(counts: Counts) -> tuple[float, float]:
    """Return the hit rate and the false-alarm rate, corrected as in `corrected_rates`."""
    hit_rate, false_alarm_rate = corrected_rates(
        counts.hits, counts.positives, counts.false_alarms, counts.negatives
    )
    return float(hit_rate), float(false_alarm_rate)


def corrected_rates(
    hits: ArrayLike, positives: ArrayLike, false_alarms: ArrayLike, negatives: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return hit and false-alarm rates with the log-linear correction, split by class size.

    p = n+ / (n+ + n-), q = 1 - p, H = (hits + p) / (n+ + 2p), F = (false alarms + q) / (n- + 2q)
    (Hautus 1995, Behavior Research Methods 27, 46-51; for classes of unequal size the added count
    follows the base rates). With n+ = n- these are the usual 1/2 and 1. Neither rate is ever 0 or 1,
    so z is finite.

    Args:
        hits, positives, false_alarms, negatives: numbers, or arrays whose shapes broadcast.

    Returns:
        H and F, in the broadcast shape.
    """
    hits, positives, false_alarms, negatives = map(
        np.asarray, (hits, positives, false_alarms, negatives)
    )
    p = positives / (positives + negatives)
    q = 1 - p
    return (hits + p) / (positives + 2 * p), (false_alarms + q) / (negatives + 2 * q)


def d_prime(counts: Counts) -> float:
    """Return the sensitivity d' = z(H) - z(F), with corrected rates; 0 is chance.

    A shift of the criterion leaves d' unchanged only if the scores of both classes are normal with
    equal variance (Green & Swets 1966).
    """
    hit_rate, false_alarm_rate = rates(counts)
    return float(ndtri(hit_rate) - ndtri(false_alarm_rate))


def criterion(counts: Counts) -> float:
    """Return the criterion c = -(z(H) + z(F)) / 2; above 0 the detector is biased towards "absent"."""
    hit_rate, false_alarm_rate = rates(counts)
    return float(-(ndtri(hit_rate) + ndtri(false_alarm_rate)) / 2)


def d_a(areas: ArrayLike, positives: int, negatives: int) -> NDArray[np.float64]:
    """Return d_a = sqrt(2) z(AUC), a sensitivity that no shift of the criterion changes.

    See Macmillan & Creelman, Detection Theory.

    Args:
        areas: areas under ROC curves `[...]`. They are clipped to half a pair away from 0 and 1, so
            that perfectly ordered scores have a finite d_a.
        positives, negatives: number of test images in each class.

    Returns:
        float `[...]`.
    """
    half_a_pair = 1 / (2 * positives * negatives)
    sensitivities: NDArray[np.float64] = np.sqrt(2) * ndtri(
        np.clip(areas, half_a_pair, 1 - half_a_pair)
    )
    return sensitivities


def d_a_variance(scores: NDArray[np.floating[Any]], present: NDArray[np.bool_]) -> float:
    """Return the variance of d_a due to images alone; the arguments are those of `detect`.

    DeLong's variance of the AUC (DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44, 837-845) times
    the squared derivative of d_a, 2 / phi(z(AUC))^2.
    """
    positives, negatives = np.sort(scores[present]), np.sort(scores[~present])
    wrong = _shares_below(positives, negatives), 1 - _shares_below(negatives, positives)
    # A single image says nothing about its variance.
    variance = sum(shares.var(ddof=min(1, len(shares) - 1)) / len(shares) for shares in wrong)
    z = d_a(wrong[1].mean(), len(positives), len(negatives)) / np.sqrt(2)
    return float(variance * 4 * np.pi * np.exp(z**2))


def _shares_below(
    ordered: NDArray[np.floating[Any]], scores: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Return the share of ordered scores `[k]` below each score `[n]`, `[n]`; ties count half."""
    ends = np.searchsorted(ordered, scores, "left"), np.searchsorted(ordered, scores, "right")
    shares: NDArray[np.float64] = (ends[0] + ends[1]) / (2 * len(ordered))
    return shares
