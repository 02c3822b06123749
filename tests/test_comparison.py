"""Resampling, comparison and consistency of detectors: closed forms, scikit-learn, simulations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import rankdata, ttest_ind, ttest_rel
from sklearn.metrics import cohen_kappa_score

from attnbench.statistics.comparison import (
    differences,
    holm,
    mean_ranks,
    pareto_margins,
    shared_ranks,
    two_sided_p,
)
from attnbench.statistics.consistency import consistency
from attnbench.statistics.detection import detect
from attnbench.statistics.intervals import interval, resampled_d_primes
from attnbench.statistics.resampling import (
    Trials,
    d_as,
    d_primes,
    observed,
    resampled,
)


def gaussian(
    sensitivities: list[float], rng: np.random.Generator, *, criterion: float = 0.0, n: int = 60
) -> Trials:
    """Observers with equal-variance normal evidence, on images of which half have the target."""
    present = np.arange(2 * n) < n
    means = np.where(present, 0.5, -0.5) * np.array(sensitivities)[:, None]
    return Trials(present, means - criterion + rng.normal(size=(len(sensitivities), 2 * n)))


def test_observed_figures_are_those_of_detect() -> None:
    rng = np.random.default_rng(0)
    targets = [[gaussian([1.0, 2.0], rng, criterion=0.3) for _ in range(2)] for _ in range(3)]
    for figure, name in ((d_primes, "d_prime"), (d_as, "d_a")):
        expected = [
            np.mean([getattr(detect(t.scores[m], t.present), name) for s in targets for t in s])
            for m in (0, 1)
        ]
        np.testing.assert_allclose(observed(targets, figure).mean(axis=0), expected, rtol=1e-12)


def test_the_interval_is_that_of_the_binomial_bootstrap() -> None:
    rng = np.random.default_rng(1)
    targets = [[gaussian([d], rng)] for d in (0.5, 1.0, 1.5, 2.0, 2.5)]
    low, high = interval(resampled(targets, d_primes, replicates=4000)[:, 0])
    counts = [[detect(seeds[0].scores[0], seeds[0].present).counts] for seeds in targets]
    drawn = rng.integers(0, 5, (4000, 5))
    expected = interval(resampled_d_primes(counts, drawn, rng))
    np.testing.assert_allclose((low, high), expected, atol=0.06)


def test_a_method_does_not_differ_from_itself() -> None:
    rng = np.random.default_rng(2)
    once = [gaussian([1.0], rng) for _ in range(4)]
    targets = [[Trials(t.present, np.concatenate([t.scores, t.scores]))] for t in once]
    for figure in (d_primes, d_as):
        found = resampled(targets, figure, replicates=200)
        assert (found[:, 0] == found[:, 1]).all()


def test_a_criterion_shift_moves_d_prime_and_leaves_d_a() -> None:
    rng = np.random.default_rng(3)
    targets = []
    for _ in range(6):
        trials = gaussian([2.0], rng, criterion=1.5)
        shifted = np.concatenate([trials.scores, trials.scores + 1.5])
        targets.append([Trials(trials.present, shifted)])
    found = observed(targets, d_as)
    assert (found[:, 0] == found[:, 1]).all()
    assert (resampled(targets, d_as, replicates=100) @ [1, -1] == 0).all()


def test_what_is_better_is_found_and_what_is_equal_shares_a_rank() -> None:
    rng = np.random.default_rng(4)
    targets = [[gaussian([2.5, 1.0, 1.02], rng, n=200)] for _ in range(10)]
    values, drawn = observed(targets, d_primes), resampled(targets, d_primes)
    found = differences(values, drawn)
    assert [each.significant for each in found] == [True, True, False]
    estimates, errors = values.mean(axis=0)[None], np.cov(drawn.T)[None]
    assert shared_ranks(estimates, errors, [values]) == [1, 2, 2]
    # a task that a method does not have says nothing of it
    more = np.concatenate([estimates, [[1.0, np.nan, 2.5]]])
    other = np.array([1.0, np.nan, 2.5]) + values - values.mean(axis=0)
    both = np.concatenate([errors, errors])
    assert shared_ranks(more, both, [values, other]) == [1, 2, 1]
    # nor does a target that it alone lacks take it out of the comparison
    values[0, 1] = np.nan
    assert shared_ranks(estimates, errors, [values]) == [1, 2, 2]
    assert found[0].low < found[0].estimate < found[0].high


def test_holm_as_published() -> None:
    # the example of R's documentation of p.adjust, rounded there
    assert holm(np.array([0.01, 0.02, 0.03, 0.04])) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm(np.array([0.04, 0.01])) == pytest.approx([0.04, 0.02])
    assert len(holm(np.array([]))) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_between_the_p_value_and_bonferronis(ps: list[float]) -> None:
    corrected = holm(np.array(ps))
    assert all(p <= c <= min(1.0, len(ps) * p) + 1e-12 for p, c in zip(ps, corrected, strict=True))
    order = np.argsort(ps, kind="stable")
    assert (np.diff(corrected[order]) >= 0).all()


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_mean_ranks_are_scipys(values: list[int]) -> None:
    array = np.array(values, dtype=float)
    np.testing.assert_allclose(mean_ranks([array]), rankdata(-array))
    stacked = np.stack([array, -array])
    np.testing.assert_allclose(mean_ranks([stacked, stacked]), [rankdata(-array), rankdata(array)])


def test_p_values_are_those_of_the_normal_distribution_and_of_student() -> None:
    estimates, errors = np.array([1.96, -1.0, 0.0, 1.0]), np.array([1.0, 0.5, 0.0, 0.0])
    alone = np.zeros((1, 4)), np.array([1])
    found = two_sided_p(estimates, errors, *alone)
    np.testing.assert_allclose(found, [0.05, 0.0455, 1.0, 0.0], atol=1e-4)
    rng = np.random.default_rng(6)
    first, second = rng.normal(0.5, 1.0, (2, 6))
    apart = first - second
    found = two_sided_p(apart.mean(), np.array(1e-9), apart.var(ddof=1)[None] / 6, np.array([6]))
    assert found == pytest.approx(ttest_rel(first, second).pvalue)
    a, b = rng.normal(size=5), rng.normal(size=9)
    welch = two_sided_p(
        a.mean() - b.mean(), np.array(1e-9), np.array([a.var(ddof=1) / 5, b.var(ddof=1) / 9]),
        np.array([5, 9]),
    )  # fmt: skip
    assert welch == pytest.approx(ttest_ind(a, b, equal_var=False).pvalue)


def test_equal_methods_are_rarely_told_apart_on_few_targets() -> None:
    """Five targets whose d' varies by 0.5 between methods: at 5 %, one in twenty may pass."""
    rng = np.random.default_rng(7)
    surely = {"by both": 0, "by the bootstrap alone": 0}
    experiments = 120
    for _ in range(experiments):
        targets = [[gaussian(rng.normal(1.5, 0.5, 2).tolist(), rng, n=300)] for _ in range(5)]
        values, drawn = observed(targets, d_primes), resampled(targets, d_primes, replicates=100)
        (found,) = differences(values, drawn)
        surely["by both"] += found.p < 0.05
        error = (drawn[:, 0] - drawn[:, 1]).std()
        surely["by the bootstrap alone"] += abs(found.estimate) > 1.96 * error
    assert surely["by both"] <= 0.08 * experiments < surely["by the bootstrap alone"], surely


def test_a_failure_ranks_last() -> None:
    assert mean_ranks([np.array([1.0, -np.inf, 2.0])]).tolist() == [2, 3, 1]


def test_pareto_margins() -> None:
    benefit = np.array([1.0, 2.0, 3.0, 2.5])
    costs = np.array([[0, 1], [5, 1], [5, 9], [9, 9]])
    assert pareto_margins(benefit, costs).tolist() == [np.inf, 1.0, 1.0, -0.5]
    assert pareto_margins(np.ones(2), np.zeros((2, 1))).tolist() == [0.0, 0.0]


decisions = st.integers(2, 60).flatmap(
    lambda n: st.tuples(*[st.lists(st.booleans(), min_size=n, max_size=n)] * 2)
)


@given(decisions)
def test_kappa_is_scikit_learns(pair: tuple[list[bool], list[bool]]) -> None:
    first, second = (np.array(each) for each in pair)
    found = consistency(first, second, replicates=50)
    if len(set(pair[0] + pair[1])) == 1:
        assert found.kappa is found.low is found.largest is None
        return
    assert found.kappa == pytest.approx(cohen_kappa_score(first, second), abs=1e-9)
    assert found.largest is not None and found.kappa <= found.largest + 1e-9


def test_the_largest_kappa_is_reached_where_one_contains_the_other() -> None:
    first: NDArray[np.bool_] = np.arange(100) < 30
    second: NDArray[np.bool_] = np.arange(100) < 50
    found = consistency(first, second)
    assert found.kappa == pytest.approx(found.largest)
    assert found.largest is not None and found.largest < 1
    assert consistency(first, first).kappa == pytest.approx(1.0)


def test_independent_detectors_have_no_consistency() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(60):
        found = consistency(rng.random(400) < 0.8, rng.random(400) < 0.7, replicates=300)
        assert found.low is not None and found.high is not None
        covered += found.low <= 0 <= found.high
    assert covered >= 50


def test_nonsense_is_refused() -> None:

    with pytest.raises(ValueError, match="images with the target"):
        Trials(np.ones(3, bool), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="same images"):
        consistency(np.ones(3, bool), np.ones(2, bool))
