"""Resampling, comparison and consistency against closed forms, other libraries and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import bootstrap, rankdata, ttest_ind, ttest_rel
from sklearn.metrics import cohen_kappa_score

from attnbench.statistics.comparison import (
    Difference,
    differences,
    holm,
    mean_ranks,
    pareto_margins,
    shared_ranks,
    two_sided_p,
)
from attnbench.statistics.consistency import Consistency, consistency
from attnbench.statistics.detection import detect
from attnbench.statistics.intervals import bootstrap_d_primes, percentile_interval
from attnbench.statistics.resampling import (
    Floats,
    Trials,
    bootstrap_means,
    d_as,
    d_primes,
    statistic_by_target,
)
from attnbench.statistics.task_comparison import PairComparison


def gaussian(
    sensitivities: list[float], rng: np.random.Generator, *, criterion: float = 0.0, n: int = 60
) -> Trials:
    """Simulate observers with equal-variance normal evidence, on n positives and n negatives."""
    present = np.arange(2 * n) < n
    means = np.where(present, 0.5, -0.5) * np.array(sensitivities)[:, None]
    return Trials(present, means - criterion + rng.normal(size=(len(sensitivities), 2 * n)))


def test_statistics_match_detect() -> None:
    rng = np.random.default_rng(0)
    targets = [[gaussian([1.0, 2.0], rng, criterion=0.3) for _ in range(2)] for _ in range(3)]
    for statistic, name in ((d_primes, "d_prime"), (d_as, "d_a")):
        expected = [
            np.mean([getattr(detect(t.scores[m], t.present), name) for s in targets for t in s])
            for m in (0, 1)
        ]
        np.testing.assert_allclose(
            statistic_by_target(targets, statistic).mean(axis=0), expected, rtol=1e-12
        )


def test_the_interval_matches_the_binomial_bootstrap() -> None:
    rng = np.random.default_rng(1)
    targets = [[gaussian([d], rng)] for d in (0.5, 1.0, 1.5, 2.0, 2.5)]
    low, high = percentile_interval(bootstrap_means(targets, [d_primes], replicates=4000)[0, :, 0])
    counts = [[detect(seeds[0].scores[0], seeds[0].present).counts] for seeds in targets]
    drawn = rng.integers(0, 5, (4000, 5))
    expected = percentile_interval(bootstrap_d_primes(counts, drawn, rng))
    np.testing.assert_allclose((low, high), expected, atol=0.06)


@given(st.data())
def test_statistics_of_a_resample_are_those_of_its_repeated_images(data: st.DataObject) -> None:
    counts = data.draw(st.tuples(st.integers(1, 8), st.integers(1, 20)))
    present = np.repeat([True, False], counts)
    few_values = st.integers(-2, 2)  # so that many are tied
    scores = np.array(
        [data.draw(st.lists(few_values, min_size=sum(counts), max_size=sum(counts)))] * 2,
        dtype=np.float32,
    )
    scores[1] = -scores[1]
    drawn = [
        np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n))) for n in counts
    ]
    weights = [
        np.bincount(of_class, minlength=n)[:, None].astype(float)
        for of_class, n in zip(drawn, counts, strict=True)
    ]
    repeated = np.concatenate([drawn[0], counts[0] + drawn[1]])
    expected = [detect(of_one[repeated], present[repeated]) for of_one in scores]
    trials = Trials(present, scores)
    assert d_as(trials, *weights)[:, 0].tolist() == [each.d_a for each in expected]
    assert d_primes(trials, *weights)[:, 0].tolist() == [each.d_prime for each in expected]


def test_replicates_have_the_moments_of_a_nested_bootstrap() -> None:
    """Closed forms for a hit rate: targets and images both add to variances and covariances."""
    rng = np.random.default_rng(8)
    targets = [[gaussian([d, 2 * d], rng, n=30) for _ in range(2)] for d in (0.2, 0.9, 1.6)]

    def hit_rates(trials: Trials, positives: Floats, negatives: Floats) -> Floats:
        rates: Floats = (trials.scores > 0)[:, trials.present] @ positives / len(positives)
        return rates

    (replicates,) = bootstrap_means(targets, [hit_rates], replicates=40_000)
    values = statistic_by_target(targets, hit_rates)
    of_images = [
        np.mean([np.cov((t.scores > 0)[:, t.present], bias=True) / 30 for t in seeds], axis=0) / 2
        for seeds in targets
    ]
    covariance = (np.cov(values.T, bias=True) + np.mean(of_images, axis=0)) / len(targets)
    np.testing.assert_allclose(replicates.mean(axis=0), values.mean(axis=0), atol=0.003)
    np.testing.assert_allclose(np.cov(replicates.T), covariance, rtol=0.04)


def test_the_standard_error_of_d_a_matches_scipy() -> None:
    rng = np.random.default_rng(9)
    trials = gaussian([1.5], rng, n=50)
    (replicates,) = bootstrap_means([[trials]], [d_as], replicates=4000)

    def statistic(positives: Floats, negatives: Floats) -> float:
        return detect(np.concatenate([positives, negatives]), trials.present).d_a

    classes = trials.scores[0, :50], trials.scores[0, 50:]
    expected = bootstrap(
        classes, statistic, vectorized=False, n_resamples=4000, method="percentile", rng=rng
    )
    assert replicates.std() == pytest.approx(expected.standard_error, rel=0.05)
    assert replicates.mean() == pytest.approx(expected.bootstrap_distribution.mean(), abs=0.03)


def test_statistics_share_the_draws_and_equal_seeds_give_equal_replicates() -> None:
    rng = np.random.default_rng(10)
    targets = [[gaussian([1.0, 2.0], rng)] for _ in range(3)]
    both = bootstrap_means(targets, [d_primes, d_as], replicates=50, seed=1)
    assert both.shape == (2, 50, 2)
    assert (both[1] == bootstrap_means(targets, [d_as], replicates=50, seed=1)[0]).all()
    assert (both[1] != bootstrap_means(targets, [d_as], replicates=50, seed=2)[0]).any()


def test_more_images_than_fit_into_one_block() -> None:
    trials = gaussian([1.0], np.random.default_rng(11), n=80_000)
    (replicates,) = bootstrap_means([[trials]], [d_primes], replicates=5)
    np.testing.assert_allclose(replicates, 1.0, atol=0.1)


def test_a_method_does_not_differ_from_itself() -> None:
    rng = np.random.default_rng(2)
    single = [gaussian([1.0], rng) for _ in range(4)]
    targets = [[Trials(t.present, np.concatenate([t.scores, t.scores]))] for t in single]
    replicates = bootstrap_means(targets, [d_primes, d_as], replicates=200)
    assert (replicates[..., 0] == replicates[..., 1]).all()


def test_a_criterion_shift_does_not_change_d_a() -> None:
    rng = np.random.default_rng(3)
    targets = []
    for _ in range(6):
        trials = gaussian([2.0], rng, criterion=1.5)
        shifted = np.concatenate([trials.scores, trials.scores + 1.5])
        targets.append([Trials(trials.present, shifted)])
    values = statistic_by_target(targets, d_as)
    assert (values[:, 0] == values[:, 1]).all()
    assert (bootstrap_means(targets, [d_as], replicates=100) @ [1, -1] == 0).all()


def test_better_methods_are_detected_and_similar_ones_share_a_rank() -> None:
    rng = np.random.default_rng(4)
    targets = [[gaussian([2.5, 1.0, 1.02], rng, n=200)] for _ in range(10)]
    values, (replicates,) = (
        statistic_by_target(targets, d_primes),
        bootstrap_means(targets, [d_primes]),
    )
    pairs = differences(values, replicates)
    assert [pair.significant for pair in pairs] == [True, True, False]
    assert pairs[0].low < pairs[0].estimate < pairs[0].high
    estimates, covariances = values.mean(axis=0)[None], np.cov(replicates.T)[None]
    assert shared_ranks(estimates, covariances, [values]) == [1, 2, 2]
    # A task that a method does not have is ignored when the method is compared.
    two_tasks = np.concatenate([estimates, [[1.0, np.nan, 2.5]]])
    second_task = np.array([1.0, np.nan, 2.5]) + values - values.mean(axis=0)
    two_covariances = np.concatenate([covariances, covariances])
    assert shared_ranks(two_tasks, two_covariances, [values, second_task]) == [1, 2, 1]
    # A method that lacks one target is still compared.
    values[0, 1] = np.nan
    assert shared_ranks(estimates, covariances, [values]) == [1, 2, 2]


def test_a_conclusion_tells_sensitivity_from_a_shift_of_the_criterion() -> None:
    def difference(estimate: float, p: float) -> Difference:
        return Difference(0, 1, estimate, estimate - 0.5, estimate + 0.5, p, p)

    agreement = Consistency(0.5, 0.4, 0.6, 1.0, 100)
    conclusions = {}
    for name, d_prime, d_a in (
        ("same", difference(0.1, 0.7), difference(0.1, 0.7)),
        ("better", difference(-1.0, 0.01), difference(-0.8, 0.01)),
        ("shifted", difference(1.0, 0.01), difference(0.1, 0.7)),
    ):
        conclusions[name] = PairComparison("a", "b", d_prime, d_a, agreement, agreement).conclusion
    assert conclusions == {
        "same": "a and b could not be distinguished (+0.10 d′ [-0.40, +0.60])",
        "better": "b is better than a (-1.00 d′ [-1.50, -0.50], and in d_a too)",
        "shifted": "a has a larger d′ than b (+1.00 d′ [+0.50, +1.50]), "
        "which a shift of the criterion may explain",
    }


def test_holm_matches_published_examples() -> None:
    # The example in R's documentation of p.adjust, which rounds it.
    assert holm(np.array([0.01, 0.02, 0.03, 0.04])) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm(np.array([0.04, 0.01])) == pytest.approx([0.04, 0.02])
    assert len(holm(np.array([]))) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_between_the_p_value_and_bonferroni(ps: list[float]) -> None:
    corrected = holm(np.array(ps))
    assert all(p <= c <= min(1.0, len(ps) * p) + 1e-12 for p, c in zip(ps, corrected, strict=True))
    order = np.argsort(ps, kind="stable")
    assert (np.diff(corrected[order]) >= 0).all()


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_mean_ranks_match_scipy(values: list[int]) -> None:
    array = np.array(values, dtype=float)
    np.testing.assert_allclose(mean_ranks([array]), rankdata(-array))
    stacked = np.stack([array, -array])
    np.testing.assert_allclose(mean_ranks([stacked, stacked]), [rankdata(-array), rankdata(array)])


def test_p_values_match_the_normal_distribution_student_and_welch() -> None:
    estimates, errors = np.array([1.96, -1.0, 0.0, 1.0]), np.array([1.0, 0.5, 0.0, 0.0])
    single_target = np.zeros((1, 4)), np.array([1])
    ps = two_sided_p(estimates, errors, *single_target)
    np.testing.assert_allclose(ps, [0.05, 0.0455, 1.0, 0.0], atol=1e-4)
    rng = np.random.default_rng(6)
    first, second = rng.normal(0.5, 1.0, (2, 6))
    difference = first - second
    paired = two_sided_p(
        difference.mean(), np.array(1e-9), difference.var(ddof=1)[None] / 6, np.array([6])
    )
    assert paired == pytest.approx(ttest_rel(first, second).pvalue)
    a, b = rng.normal(size=5), rng.normal(size=9)
    welch = two_sided_p(
        a.mean() - b.mean(), np.array(1e-9), np.array([a.var(ddof=1) / 5, b.var(ddof=1) / 9]),
        np.array([5, 9]),
    )  # fmt: skip
    assert welch == pytest.approx(ttest_ind(a, b, equal_var=False).pvalue)


def test_equal_methods_rarely_differ_significantly_on_few_targets() -> None:
    """Five targets whose d' varies by 0.5 between methods: at 5 %, one pair in twenty may differ."""
    rng = np.random.default_rng(7)
    significant = {"both": 0, "bootstrap only": 0}
    experiments = 120
    for _ in range(experiments):
        targets = [[gaussian(rng.normal(1.5, 0.5, 2).tolist(), rng, n=300)] for _ in range(5)]
        values = statistic_by_target(targets, d_primes)
        (replicates,) = bootstrap_means(targets, [d_primes], replicates=100)
        (pair,) = differences(values, replicates)
        significant["both"] += pair.p < 0.05
        error = (replicates[:, 0] - replicates[:, 1]).std()
        significant["bootstrap only"] += abs(pair.estimate) > 1.96 * error
    limit = 0.08 * experiments
    assert significant["both"] <= limit < significant["bootstrap only"], significant


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
def test_kappa_matches_scikit_learn(pair: tuple[list[bool], list[bool]]) -> None:
    first, second = map(np.array, pair)
    result = consistency(first, second, replicates=50)
    if len(set(pair[0] + pair[1])) == 1:
        assert result.kappa is result.low is result.largest is None
        return
    assert result.kappa == pytest.approx(cohen_kappa_score(first, second), abs=1e-9)
    assert result.largest is not None and result.kappa <= result.largest + 1e-9


def test_nested_decisions_reach_the_largest_kappa() -> None:
    first: NDArray[np.bool_] = np.arange(100) < 30
    second: NDArray[np.bool_] = np.arange(100) < 50
    result = consistency(first, second)
    assert result.kappa == pytest.approx(result.largest)
    assert result.largest is not None and result.largest < 1
    assert consistency(first, first).kappa == pytest.approx(1.0)


def test_independent_detectors_have_no_consistency() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(60):
        result = consistency(rng.random(400) < 0.8, rng.random(400) < 0.7, replicates=300)
        assert result.low is not None and result.high is not None
        covered += result.low <= 0 <= result.high
    assert covered >= 50


def test_invalid_arguments_are_rejected() -> None:
    with pytest.raises(ValueError, match="images with the target"):
        Trials(np.ones(3, bool), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="same images"):
        consistency(np.ones(3, bool), np.ones(2, bool))
