"""Detection sensitivity and bias from scores: pure functions of arrays.

A score above 0 says "present". z is the inverse of the standard normal distribution function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri


@dataclass(frozen=True)
class Counts:
    """The outcome of a detection experiment: hits of positives, false alarms of negatives."""

    hits: int
    positives: int
    false_alarms: int
    negatives: int

    def __post_init__(self) -> None:
        if not (0 <= self.hits <= self.positives and 0 <= self.false_alarms <= self.negatives):
            raise ValueError(f"impossible counts: {self}")
        if self.positives == 0 or self.negatives == 0:
            raise ValueError("detection needs at least one positive and one negative")


@dataclass(frozen=True)
class Detection:
    """All figures of one detector on one set of test images."""

    counts: Counts
    hit_rate: float
    false_alarm_rate: float
    d_prime: float
    criterion: float
    auc: float
    d_a: float


def detect(scores: NDArray[np.floating[Any]], present: NDArray[np.bool_]) -> Detection:
    """Every figure at once.

    Args:
        scores: decision scores `[n]`, finite.
        present: bool `[n]`, whether the target is in the image.

    Raises:
        ValueError: where one of the classes is empty or the shapes differ.
    """
    counts = count(scores, present)
    return detection_of(roc(scores, present), counts)


@dataclass(frozen=True)
class Roc:
    """The outcome at every threshold, from one above all scores to one below.

    Attributes:
        hits, false_alarms: how many, `[thresholds]`; no threshold lies between equal scores.
    """

    hits: NDArray[np.int64]
    false_alarms: NDArray[np.int64]

    @property
    def area(self) -> float:
        """The share of (positive, negative) pairs in the right order, ties half."""
        steps = self.false_alarms[1:] - self.false_alarms[:-1]
        pairs = (steps @ (self.hits[1:] + self.hits[:-1])) / 2
        return float(pairs) / (int(self.hits[-1]) * int(self.false_alarms[-1]))

    def hit_rates(self, false_alarm_rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """The largest hit rate at each of these false-alarm rates, straight between thresholds."""
        # Of thresholds with the same false alarms the lowest finds most.
        best = np.concatenate((self.false_alarms[1:] != self.false_alarms[:-1], [True]))
        found: NDArray[np.float64] = np.interp(
            false_alarm_rates,
            self.false_alarms[best] / self.false_alarms[-1],
            self.hits[best] / self.hits[-1],
        )
        return found


def roc(scores: NDArray[np.floating[Any]], present: NDArray[np.bool_]) -> Roc:
    """The ROC curve of scores `[n]`; arguments as for `detect`."""
    if not present.any() or present.all():
        raise ValueError("an ROC needs at least one positive and one negative")
    order = np.argsort(-scores)
    ordered = scores[order]
    last = np.concatenate((np.flatnonzero(ordered[1:] != ordered[:-1]), [len(ordered) - 1]))
    hits = np.cumsum(present[order])[last]
    return Roc(np.concatenate(([0], hits)), np.concatenate(([0], last + 1 - hits)))


def detection_of(curve: Roc, counts: Counts) -> Detection:
    """Every figure from a curve and the counts at the detector's own threshold."""
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
        d_a=d_a(area, counts.positives, counts.negatives),
    )


def count(scores: NDArray[np.floating[Any]], present: NDArray[np.bool_]) -> Counts:
    """Hits and false alarms at threshold 0. `scores` and `present` are `[n]`."""
    if scores.shape != present.shape or scores.ndim != 1:
        raise ValueError(f"scores {scores.shape} and present {present.shape} must both be [n]")
    said = scores > 0
    return Counts(
        hits=int((said & present).sum()),
        positives=int(present.sum()),
        false_alarms=int((said & ~present).sum()),
        negatives=int((~present).sum()),
    )


def rates(counts: Counts) -> tuple[float, float]:
    """Hit and false-alarm rate of one experiment, as `corrected_rates` has them."""
    hit_rate, false_alarm_rate = corrected_rates(
        counts.hits, counts.positives, counts.false_alarms, counts.negatives
    )
    return float(hit_rate), float(false_alarm_rate)


def corrected_rates(
    hits: ArrayLike, positives: ArrayLike, false_alarms: ArrayLike, negatives: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hit and false-alarm rates with the log-linear correction, split by class size.

    p = n+ / (n+ + n-), q = 1 - p, H = (hits + p) / (n+ + 2p), F = (false alarms + q) / (n- + 2q)
    (Hautus 1995, Behavior Research Methods 27, 46-51; for unequal numbers the added count follows
    the base rates). With n+ = n- it is the usual 1/2 and 1. Neither rate is ever 0 or 1.

    Args:
        hits, positives, false_alarms, negatives: numbers, or arrays of shapes that go together.
    """
    hits, positives, false_alarms, negatives = map(
        np.asarray, (hits, positives, false_alarms, negatives)
    )
    p = positives / (positives + negatives)
    q = 1 - p
    return (hits + p) / (positives + 2 * p), (false_alarms + q) / (negatives + 2 * q)


def d_prime(counts: Counts) -> float:
    """Sensitivity d' = z(H) - z(F): 0 is chance, and a criterion shift leaves it alone only where
    the scores of both classes are normal with equal spread (Green & Swets 1966)."""
    hit_rate, false_alarm_rate = rates(counts)
    return float(ndtri(hit_rate) - ndtri(false_alarm_rate))


def criterion(counts: Counts) -> float:
    """Bias c = -(z(H) + z(F)) / 2: above 0 the detector leans to "absent"."""
    hit_rate, false_alarm_rate = rates(counts)
    return float(-(ndtri(hit_rate) + ndtri(false_alarm_rate)) / 2)


def auc(scores: NDArray[np.floating[Any]], present: NDArray[np.bool_]) -> float:
    """Area under the ROC: the share of (positive, negative) pairs in the right order, ties half
    (the Mann-Whitney statistic)."""
    return roc(scores, present).area


def d_a(area: float, positives: int, negatives: int) -> float:
    """d_a of one area, as `d_as_of` has it."""
    return float(d_as_of(area, positives, negatives))


def d_as_of(areas: ArrayLike, positives: int, negatives: int) -> NDArray[np.float64]:
    """d_a = sqrt(2) z(AUC): sensitivity that no shift of criterion can buy (Macmillan & Creelman).

    An area is kept at least half a pair away from 0 and 1, so that a perfect order has a finite
    value.
    """
    half_a_pair = 1 / (2 * positives * negatives)
    found: NDArray[np.float64] = np.sqrt(2) * ndtri(np.clip(areas, half_a_pair, 1 - half_a_pair))
    return found
