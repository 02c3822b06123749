"""`attnbench.statistics.retest`: the difference between two tests of a method on the same targets."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from attnbench.statistics.detection import d_a_variance, detect
from attnbench.statistics.retest import Trials, retest


def observer(rng: np.random.Generator, d_prime: float, positives: int = 40) -> Trials:
    """An episode of an observer with normal evidence, its images in random order."""
    present = rng.permutation(240) < positives
    return Trials(rng.normal(d_prime * present), present)


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
    expected = scipy.stats.t.interval(
        0.95, 5, loc=np.mean(differences), scale=scipy.stats.sem(differences)
    )
    assert (outcome.low, outcome.high) == pytest.approx(expected)


def auc_of(trials: Trials) -> float:
    return float(roc_auc_score(trials.present, trials.scores))


def test_equal_observers_rarely_differ_beyond_chance() -> None:
    rng = np.random.default_rng(0)
    below = 0
    for _ in range(100):
        earlier, new = ([observer(rng, 1.5) for _ in range(5)] for _ in range(2))
        below += retest(new, earlier).high < 0
    assert below <= 8  # of 100 with probability 0.025; more than 8 with probability 0.001


def test_one_target_and_perfect_scores_have_finite_intervals() -> None:
    rng = np.random.default_rng(0)
    one = retest([observer(rng, 1.0)], [observer(rng, 1.0)])
    difference = one.d_a[0] - one.d_a[1]
    assert np.isfinite([one.low, one.high]).all() and one.low < difference < one.high
    perfect = [Trials(-np.arange(6.0), np.arange(6) < 3)] * 3
    assert (same := retest(perfect, perfect)).low == same.high == 0
    with pytest.raises(ValueError, match="different numbers of images"):
        retest([observer(rng, 1.0)], [observer(rng, 1.0, positives=30)])


@pytest.mark.parametrize("d_prime", [0.0, 1.5, 3.0])
def test_the_variance_due_to_images_matches_that_of_new_images(d_prime: float) -> None:
    rng = np.random.default_rng(0)
    trials = [observer(rng, d_prime) for _ in range(2000)]
    d_as = [detect(one.scores, one.present).d_a for one in trials]
    expected = np.mean([d_a_variance(one.scores, one.present) for one in trials])
    assert np.std(d_as) == pytest.approx(np.sqrt(expected), rel=0.08)


def test_the_variance_due_to_images_matches_scipy() -> None:
    trials = observer(np.random.default_rng(9), 1.5, positives=50)
    order = np.argsort(~trials.present, kind="stable")
    scores, present = trials.scores[order], trials.present[order]

    def statistic(positives: np.ndarray, negatives: np.ndarray) -> float:
        return detect(np.concatenate([positives, negatives]), present).d_a

    classes = scores[present], scores[~present]
    expected = scipy.stats.bootstrap(
        classes, statistic, vectorized=False, n_resamples=1000, method="percentile", rng=0
    )
    assert np.sqrt(d_a_variance(scores, present)) == pytest.approx(
        expected.standard_error, rel=0.06
    )
