"""Error consistency of detectors with people, and of people among themselves.

Kappa (see `attnbench.statistics.consistency`) is averaged over people, or over pairs of people. A
bootstrap resamples pictures and people at once, so an interval is about others of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from attnbench.statistics.consistency import (
    Bools,
    Floats,
    kappa_of_shares,
    largest_kappa_of_shares,
)
from attnbench.statistics.intervals import Interval, percentile_interval

_CHUNK = 256  # replicates at a time: their counts take 20 MB for 15 observers


@dataclass(frozen=True)
class MeanKappa:
    """Mean kappa with its bootstrap.

    Attributes:
        value: the mean; None if it is undefined for every pair.
        largest: the mean of the largest kappas that observers with these rates can reach; None if
            the mean is.
        replicates: float `[r]`, the mean in each bootstrap replicate. Means of one call use the same
            replicates, so that differences between them are paired.
    """

    value: float | None
    largest: float | None
    replicates: Floats

    @property
    def interval(self) -> Interval | None:
        """The 95 % percentile interval; None if it is undefined."""
        defined = self.replicates[~np.isnan(self.replicates)]
        return percentile_interval(defined) if self.value is not None and len(defined) else None


@dataclass(frozen=True)
class PeopleConsistency:
    """Error consistency of k detectors with m people.

    Attributes:
        by_person: float `[k, m]`, kappa of each detector with each person; NaN where undefined.
        detectors: each detector's mean over people.
        people: the mean over pairs of different people.
    """

    by_person: Floats
    detectors: tuple[MeanKappa, ...]
    people: MeanKappa


def people_consistency(
    detectors: Bools,
    people: Bools,
    pictures: NDArray[np.int64],
    *,
    known: Bools | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> PeopleConsistency:
    """Return kappa of detectors with people and among people, for trials of one class.

    Args:
        detectors: bool `[k, n]`, whether each detector called the target of each trial present. All
            trials have the target, or all lack it.
        people: bool `[m, n]`, the same of each person.
        pictures: int `[n]`, the picture of each trial. A picture that is a trial for several targets
            is resampled as a whole.
        known: bool `[m, n]`, whether the person has answered; by default all have.
        replicates: number of bootstrap replicates.
        seed: of the random generator.

    Raises:
        ValueError: if there are no trials or no people, or the shapes differ.
    """
    n = len(pictures)
    if not n or not len(people) or detectors.shape[1:] != (n,) or people.shape[1:] != (n,):
        raise ValueError(
            f"detectors {detectors.shape}, people {people.shape} and pictures {pictures.shape} must "
            "be [k, n], [m, n] and [n], with at least one trial and one person"
        )
    known = np.ones_like(people) if known is None else known
    k, m = len(detectors), len(people)
    first, second = _pairs(k, m)
    observers = np.concatenate([detectors, people])
    decided = np.concatenate([np.ones_like(detectors), known])
    counts = _counts_by_picture(observers, decided, pictures, first, second)
    values = _of_counts(counts.sum(axis=1, keepdims=True), kappa_of_shares)[0]
    largest = _of_counts(counts.sum(axis=1, keepdims=True), largest_kappa_of_shares)[0]

    rng = np.random.default_rng(seed)
    number = counts.shape[1]
    drawn_pictures = rng.multinomial(number, np.full(number, 1 / number), replicates)
    drawn_people = rng.multinomial(m, np.full(m, 1 / m), replicates).astype(np.float64)
    resampled = np.concatenate(
        [
            _of_counts(np.einsum("rp,cpq->crq", chunk, counts, optimize=True), kappa_of_shares)
            for chunk in np.array_split(drawn_pictures.astype(np.float64), -(-replicates // _CHUNK))
        ]
    )
    # How often a pair of observers is in a replicate. A person does not pair with their own copies.
    times = np.concatenate([np.ones((replicates, k)), drawn_people], axis=1)
    weights = times[:, first] * times[:, second]
    groups = [first == detector for detector in range(k)] + [first >= k]
    means = [
        MeanKappa(
            value=_none_if_nan(_mean(values[group], np.ones(int(group.sum())))),
            largest=_none_if_nan(_mean(largest[group], np.ones(int(group.sum())))),
            replicates=_mean(resampled[:, group], weights[:, group]),
        )
        for group in groups
    ]
    return PeopleConsistency(values[: k * m].reshape(k, m), tuple(means[:k]), means[k])


def _pairs(k: int, m: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of each detector with each person, then those of different people."""
    pairs = [(detector, k + person) for detector in range(k) for person in range(m)]
    pairs += [(k + one, k + other) for one, other in combinations(range(m), 2)]
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return first, second


def _counts_by_picture(
    observers: Bools,
    decided: Bools,
    pictures: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
) -> Floats:
    """Return numbers of trials, float `[4, pictures, pairs]`.

    They are those that both observers of a pair call present, that only the first does, that only the
    second does, and all that both have decided on.
    """
    _, numbers = np.unique(pictures, return_inverse=True)
    counts = np.empty((4, numbers.max() + 1, len(first)))
    for pair, (one, other) in enumerate(zip(first, second, strict=True)):
        both_decided = decided[one] & decided[other]
        a, b = observers[one] & both_decided, observers[other] & both_decided
        for row, trials in enumerate((a & b, a & ~b, b & ~a, both_decided)):
            counts[row, :, pair] = np.bincount(numbers, trials, counts.shape[1])
    return counts


def _of_counts(counts: Floats, measure: Callable[[Floats], Floats]) -> Floats:
    """Return a measure of shares for counts `[4, r, pairs]`, float `[r, pairs]`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Floats = measure(counts[:3] / counts[3])
    return result


def _mean(values: Floats, weights: Floats) -> Floats:
    """Return the weighted mean over the last axis, without NaN; NaN if there is nothing left."""
    weights = np.where(np.isnan(values), 0.0, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = (np.nan_to_num(values) * weights).sum(axis=-1) / weights.sum(axis=-1)
    return mean


def _none_if_nan(value: Floats) -> float | None:
    return None if np.isnan(value) else float(value)
