"""Sensitivity and criterion of people, from their choices among several categories.

A person who chose a category has called it present and all others absent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from attnbench.statistics.consistency import Bools, Floats
from attnbench.statistics.detection import corrected_rates
from attnbench.statistics.intervals import mean_interval
from attnbench.statistics.joint_means import Estimate


@dataclass(frozen=True)
class PeopleDetection:
    """Detection by people: for each person the mean over targets, then the mean over people.

    Intervals are Student's, for the population that these people are a sample of.

    Attributes:
        d_prime, criterion: d' and c, in z units, from rates corrected as in `corrected_rates`.
        hit_rate, false_alarm_rate: corrected rates.
        pooled_d_prime: d' from rates pooled over targets, which the correction inflates less.
    """

    d_prime: Estimate
    criterion: Estimate
    hit_rate: Estimate
    false_alarm_rate: Estimate
    pooled_d_prime: Estimate


def people_detection(
    decisions: Bools,
    present: Bools,
    targets: NDArray[np.int64],
    *,
    known: Bools | None = None,
) -> PeopleDetection:
    """Return the measures of detection of m people.

    Args:
        decisions: bool `[m, n]`, whether each person called the target of each trial present.
        present: bool `[n]`, whether it is.
        targets: int `[n]`, the target of each trial.
        known: bool `[m, n]`, whether the person has answered; by default all have. A target of which
            a person has answered no positives, or no negatives, is left out of this person's means.

    Raises:
        ValueError: if a person has no target left.
    """
    known = np.ones_like(decisions) if known is None else known
    number = int(targets.max()) + 1

    def counts(of: Bools) -> Floats:
        return np.array([np.bincount(targets, row, number) for row in of])

    hits, positives = counts(decisions & known & present), counts(known & present)
    false_alarms, negatives = counts(decisions & known & ~present), counts(known & ~present)
    usable = (positives > 0) & (negatives > 0)
    if not usable.any(axis=1).all():
        raise ValueError("each person needs answers to pictures with a target and without it")

    def measures(*numbers: Floats) -> tuple[Floats, ...]:
        hit_rates, false_alarm_rates = corrected_rates(*numbers)
        z_hit, z_false_alarm = ndtri(hit_rates), ndtri(false_alarm_rates)
        return z_hit - z_false_alarm, -(z_hit + z_false_alarm) / 2, hit_rates, false_alarm_rates

    with np.errstate(invalid="ignore", divide="ignore"):
        by_target = measures(hits, positives, false_alarms, negatives)
    of_people = [np.nanmean(np.where(usable, values, np.nan), axis=1) for values in by_target]
    totals = (numbers.sum(axis=1) for numbers in (hits, positives, false_alarms, negatives))
    pooled = measures(*totals)[0]
    return PeopleDetection(*map(_mean_of_people, (*of_people, pooled)))


def _mean_of_people(values: Floats) -> Estimate:
    return Estimate(float(values.mean()), mean_interval(values) if len(values) > 1 else None)
