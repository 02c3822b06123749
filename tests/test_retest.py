"""`attnbench.statistics.retest`: the difference between two tests of a method on the same targets."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from attnbench.statistics.resampling import Trials
from attnbench.statistics.retest import retest


def observer(rng: np.random.Generator, d_prime: float, positives: int = 40) -> Trials:
    """An episode of an observer with normal evidence, its images in random order."""
    present = rng.permutation(240) < positives
    return Trials(present, rng.normal(d_prime * present)[None])


def test_the_interval_is_student_s_over_targets() -> None:
    """With targets that vary much, the images' share is small, and scipy gives the same interval."""
    rng = np.random.default_rng(0)
    earlier = [observer(rng, 1.0) for _ in range(6)]
    new = [observer(rng, d) for d in (0.2, 0.5, 1.0, 1.5, 2.0, 3.0)]
    outcome = retest(new, earlier)
    by_target = [
        np.sqrt(2) * scipy.stats.norm.ppf([auc_of(trials) for trials in pair])
        for pair in zip(new, earlier, strict=True)
    ]
    differences = [a - b for a, b in by_target]
    assert outcome.d_a == pytest.approx(tuple(np.mean(by_target, axis=0)))
    assert outcome.difference.estimate == pytest.approx(np.mean(differences))
    expected = scipy.stats.t.interval(
        0.95, 5, loc=np.mean(differences), scale=scipy.stats.sem(differences)
    )
    assert (outcome.difference.low, outcome.difference.high) == pytest.approx(expected)


def auc_of(trials: Trials) -> float:
    return float(roc_auc_score(trials.present, trials.scores[0]))


def test_equal_observers_rarely_differ_beyond_chance() -> None:
    rng = np.random.default_rng(0)
    below = 0
    for _ in range(100):
        earlier, new = ([observer(rng, 1.5) for _ in range(5)] for _ in range(2))
        below += retest(new, earlier).difference.high < 0
    assert below <= 8  # of 100 with probability 0.025; more than 8 with probability 0.001


def test_one_target_and_perfect_scores_have_finite_intervals() -> None:
    rng = np.random.default_rng(0)
    one = retest([observer(rng, 1.0)], [observer(rng, 1.0)]).difference
    assert np.isfinite([one.low, one.high]).all() and one.low < one.estimate < one.high
    perfect = [Trials(np.arange(6) < 3, -np.arange(6.0)[None])] * 3
    assert (same := retest(perfect, perfect).difference).low == same.high == 0
    with pytest.raises(ValueError, match="different numbers of images"):
        retest([observer(rng, 1.0)], [observer(rng, 1.0, positives=30)])
