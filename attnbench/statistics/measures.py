"""What a detection experiment gives. Records use this module, which imports neither NumPy nor SciPy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """The outcome counts of a detection experiment.

    Attributes:
        hits: positives called present.
        positives: images with the target, at least one.
        false_alarms: negatives called present.
        negatives: images without the target, at least one.

    Raises:
        ValueError: if the counts contradict each other or a class is empty.
    """

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
    """All measures of one detector on one set of test images.

    Attributes:
        counts: outcomes at threshold 0.
        hit_rate, false_alarm_rate: with the correction of `corrected_rates`.
        d_prime: sensitivity d' at threshold 0, in z units.
        criterion: criterion c at threshold 0, in z units.
        auc: area under the ROC curve.
        d_a: sensitivity over all thresholds, in z units.
    """

    counts: Counts
    hit_rate: float
    false_alarm_rate: float
    d_prime: float
    criterion: float
    auc: float
    d_a: float
