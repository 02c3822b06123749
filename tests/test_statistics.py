"""d', criterion, AUC, d_a and intervals against closed forms, other libraries and simulations."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtr
from sklearn.metrics import roc_auc_score

from attnbench.statistics import detection
from attnbench.statistics.consistency import consistency, consistency_matrix
from attnbench.statistics.detection import detect, roc
from attnbench.statistics.intervals import (
    d_prime_interval,
    mean_interval,
    median_interval,
    percentile_interval,
)
from attnbench.statistics.measures import Counts

_z = NormalDist().inv_cdf


@st.composite
def outcomes(draw: st.DrawFn) -> Counts:
    positives, negatives = draw(st.integers(1, 300)), draw(st.integers(1, 3000))
    hits, false_alarms = draw(st.integers(0, positives)), draw(st.integers(0, negatives))
    return Counts(hits, positives, false_alarms, negatives)


@given(st.integers(1, 500), st.integers(0, 500), st.integers(0, 500))
def test_with_classes_of_equal_size_the_correction_is_the_usual_one(
    n: int, hits: int, false_alarms: int
) -> None:
    hits, false_alarms = min(hits, n), min(false_alarms, n)
    hit_rate, false_alarm_rate = detection.rates(Counts(hits, n, false_alarms, n))
    assert hit_rate == pytest.approx((hits + 0.5) / (n + 1))
    assert false_alarm_rate == pytest.approx((false_alarms + 0.5) / (n + 1))


@given(st.integers(1, 500), st.integers(1, 5000), st.booleans())
def test_constant_responses_have_no_sensitivity(
    positives: int, negatives: int, response: bool
) -> None:
    counts = Counts(positives * response, positives, negatives * response, negatives)
    assert detection.d_prime(counts) == pytest.approx(0, abs=1e-9)


def test_the_usual_correction_would_reward_constant_absent_responses() -> None:
    # DESIGN.md, rule 3: with 50 positives and 2,000 negatives it gives 1.15.
    usual = _z(0.5 / 51) - _z(0.5 / 2001)
    assert usual == pytest.approx(1.15, abs=0.005)
    assert detection.d_prime(Counts(0, 50, 0, 2000)) == pytest.approx(0, abs=1e-12)


def test_a_perfect_detector_has_the_largest_finite_d_prime() -> None:
    # With 50 images per class, H = 50.5/51 and F = 0.5/51.
    expected = _z(50.5 / 51) - _z(0.5 / 51)
    assert detection.d_prime(Counts(50, 50, 0, 50)) == pytest.approx(expected)


@given(outcomes())
def test_measures_match_an_independent_form_of_the_formula(counts: Counts) -> None:
    n = counts.positives + counts.negatives
    hit_rate = (counts.hits * n + counts.positives) / (counts.positives * n + 2 * counts.positives)
    false_alarm_rate = (counts.false_alarms * n + counts.negatives) / (
        counts.negatives * n + 2 * counts.negatives
    )
    assert detection.d_prime(counts) == pytest.approx(_z(hit_rate) - _z(false_alarm_rate), abs=1e-7)
    assert detection.criterion(counts) == pytest.approx(
        -(_z(hit_rate) + _z(false_alarm_rate)) / 2, abs=1e-7
    )


@given(outcomes())
def test_opposite_responses_reverse_the_sign(counts: Counts) -> None:
    opposite = Counts(
        counts.positives - counts.hits,
        counts.positives,
        counts.negatives - counts.false_alarms,
        counts.negatives,
    )
    assert detection.d_prime(opposite) == pytest.approx(-detection.d_prime(counts), abs=1e-9)
    assert detection.criterion(opposite) == pytest.approx(-detection.criterion(counts), abs=1e-9)


@given(outcomes(), st.integers(1, 5))
def test_more_hits_or_fewer_false_alarms_never_lower_d_prime(counts: Counts, more: int) -> None:
    hits = min(counts.positives, counts.hits + more)
    better = Counts(hits, counts.positives, counts.false_alarms, counts.negatives)
    assert detection.d_prime(better) >= detection.d_prime(counts)
    false_alarms = max(0, counts.false_alarms - more)
    better = Counts(counts.hits, counts.positives, false_alarms, counts.negatives)
    assert detection.d_prime(better) >= detection.d_prime(counts)


_SCORES = st.lists(st.integers(-5, 5), min_size=1, max_size=60)


@given(_SCORES, _SCORES)
def test_auc_matches_scikit_learn(positives: list[int], negatives: list[int]) -> None:
    scores = np.array(positives + negatives, dtype=np.float32)
    present = np.arange(len(scores)) < len(positives)
    assert roc(scores, present).area == pytest.approx(roc_auc_score(present, scores))


@given(_SCORES, _SCORES, st.integers(-9, 9), st.integers(1, 9))
def test_no_shift_of_the_criterion_changes_d_a(
    positives: list[int], negatives: list[int], shift: int, gain: int
) -> None:
    scores = np.array(positives + negatives, dtype=np.float64)
    present = np.arange(len(scores)) < len(positives)
    before, after = detect(scores, present), detect(scores * gain + shift, present)
    assert after.auc == before.auc and after.d_a == before.d_a


@pytest.mark.parametrize(("separation", "shift"), [(0.0, 0.0), (1.0, 0.3), (2.0, -0.5)])
def test_measures_recover_the_parameters_of_equal_variance_normal_scores(
    separation: float, shift: float
) -> None:
    rng = np.random.default_rng(0)
    present = np.arange(400_000) < 200_000
    scores = rng.standard_normal(400_000) + present * separation - separation / 2 - shift
    measures = detect(scores, present)
    assert measures.d_prime == pytest.approx(separation, abs=0.02)
    assert measures.criterion == pytest.approx(shift, abs=0.02)
    assert measures.d_a == pytest.approx(separation, abs=0.02)


def test_d_a_of_perfectly_ordered_scores_is_finite() -> None:
    assert detection.d_a(1.0, 50, 50) == pytest.approx(math.sqrt(2) * _z(1 - 1 / 5000))
    assert detection.d_a(0.5, 50, 50) == 0


def test_a_score_of_zero_means_absent() -> None:
    scores = np.array([0.0, 1.0, 0.0, 1.0])
    assert detection.count(scores, np.array([True, True, False, False])) == Counts(1, 2, 1, 2)


@pytest.mark.parametrize(
    "counts", [(-1, 5, 0, 5), (6, 5, 0, 5), (0, 5, 6, 5), (0, 0, 0, 5), (0, 5, 0, 0)]
)
def test_impossible_counts_are_rejected(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError):
        Counts(*counts)


def test_pooled_counts_are_those_of_all_images() -> None:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((7, 50))
    present = rng.random((7, 50)) < 0.3
    counts = [detection.count(one, there) for one, there in zip(scores, present, strict=True)]
    assert detection.pool(counts) == detection.count(scores.ravel(), present.ravel())
    assert detection.pool(counts[:1]) == counts[0]
    with pytest.raises(ValueError, match="at least one"):
        detection.pool([])


def test_pooled_rates_are_less_inflated_where_positives_are_few() -> None:
    """Exact expectation over binomial counts: 10 positives and 500 negatives, 30 targets."""
    d_prime, criterion = 3.0, -0.3
    hit_rate, false_alarm_rate = ndtr(d_prime / 2 - criterion), ndtr(-d_prime / 2 - criterion)
    hits, false_alarms = np.arange(11), np.arange(501)
    weights = np.outer(
        stats.binom.pmf(hits, 10, hit_rate), stats.binom.pmf(false_alarms, 500, false_alarm_rate)
    )
    values = [[detection.d_prime(Counts(h, 10, f, 500)) for f in false_alarms] for h in hits]
    mean_of_targets = float((weights * values).sum())
    rng = np.random.default_rng(0)
    pooled = [
        detection.d_prime(
            detection.pool([Counts(int(h), 10, int(f), 500) for h, f in zip(hs, fs, strict=True)])
        )
        for hs, fs in zip(
            rng.binomial(10, hit_rate, (200, 30)),
            rng.binomial(500, false_alarm_rate, (200, 30)),
            strict=True,
        )
    ]
    assert mean_of_targets > d_prime + 0.2
    assert np.mean(pooled) == pytest.approx(d_prime, abs=0.05)


def test_detect_rejects_a_single_class_and_unequal_lengths() -> None:
    with pytest.raises(ValueError):
        detect(np.zeros(3), np.array([True, True, True]))
    with pytest.raises(ValueError):
        detect(np.zeros(3), np.array([True, False]))


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("targets", [5, 10, 20])
def test_the_interval_has_its_nominal_coverage(targets: int, seeds: int) -> None:
    """Simulate 800 experiments of 50 + 450 images: d' is normal over targets, c is 0.3.

    d' has a mean of 1.5 and a standard deviation of 0.5. The bias of the correction is 0.003 here.
    """
    rng = np.random.default_rng(targets)
    covered = 0
    for _ in range(800):
        strengths = rng.normal(1.5, 0.5, (targets, 1))
        hits = rng.binomial(50, ndtr(strengths / 2 - 0.3), (targets, seeds)).tolist()
        false_alarms = rng.binomial(450, ndtr(-strengths / 2 - 0.3), (targets, seeds)).tolist()
        counts = [
            [Counts(h, 50, f, 450) for h, f in zip(*by_seed, strict=True)]
            for by_seed in zip(hits, false_alarms, strict=True)
        ]
        low, high = d_prime_interval(counts)
        covered += low <= 1.5 <= high
    three_errors = 3 * math.sqrt(0.95 * 0.05 / 800)
    assert 0.93 - three_errors <= covered / 800 <= 0.97 + three_errors


def test_the_interval_of_a_mean_is_student_s() -> None:
    values = np.random.default_rng(0).normal(1, 1, 6)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert mean_interval(values, level=0.9) == pytest.approx(tuple(expected))
    assert mean_interval(values[:1], error=0.1) == pytest.approx(
        (values[0] - 0.196, values[0] + 0.196), abs=1e-4
    )


def test_equal_targets_leave_the_uncertainty_due_to_images() -> None:
    counts = Counts(800, 1000, 1800, 9000)
    rng = np.random.default_rng(0)
    drawn = zip(rng.binomial(1000, 0.8, 4000), rng.binomial(9000, 0.2, 4000), strict=True)
    d_primes = [detection.d_prime(Counts(int(h), 1000, int(f), 9000)) for h, f in drawn]
    low, high = d_prime_interval([[counts]])
    assert (low, high) == pytest.approx(percentile_interval(np.array(d_primes)), abs=0.01)
    eight = d_prime_interval([[counts] * 2] * 4)
    assert eight[1] - eight[0] == pytest.approx((high - low) / math.sqrt(8))


def test_the_interval_is_deterministic() -> None:
    counts = [[Counts(20, 30, 10, 100)], [Counts(25, 30, 5, 100)]]
    assert d_prime_interval(counts) == d_prime_interval(counts)


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=30))
def test_a_median_lies_within_its_interval(values: list[float]) -> None:
    median, low, high = median_interval(values, replicates=200)
    assert low <= median <= high
    assert median == pytest.approx(np.median(values))


def test_more_seeds_do_not_replace_more_targets() -> None:
    """The interval of targets that differ a lot shrinks with their number, not with that of seeds."""
    easy, hard = Counts(4900, 5000, 100, 5000), Counts(2600, 5000, 2400, 5000)
    one = d_prime_interval([[easy], [hard]])
    five = d_prime_interval([[easy] * 5, [hard] * 5])
    assert five[1] - five[0] > 0.9 * (one[1] - one[0])
    many = d_prime_interval([[easy], [hard]] * 20)
    assert many[1] - many[0] < 0.5 * (one[1] - one[0])


def test_the_consistency_matrix_matches_the_consistency_of_each_pair() -> None:
    rng = np.random.default_rng(0)
    difficulty = rng.random(900)
    decisions = 0.5 * difficulty + 0.5 * rng.random((5, 900)) < rng.uniform(0.3, 0.8, (5, 1))
    decisions[4] = True
    decided = np.ones_like(decisions)
    decided[1, :200] = False
    matrix = consistency_matrix(decisions, decided)
    for i in range(5):
        for j in range(5):
            both = decided[i] & decided[j]
            expected = consistency(decisions[i, both], decisions[j, both])
            assert matrix.images[i, j] == expected.images
            for name, tolerance in (
                ("kappa", 1e-9),
                ("largest", 1e-9),
                ("low", 0.015),
                ("high", 0.015),
            ):
                value, expected_value = getattr(matrix, name)[i, j], getattr(expected, name)
                if expected_value is None:
                    assert np.isnan(value)
                else:
                    assert value == pytest.approx(expected_value, abs=tolerance)
