"""Means over settings that share targets, against closed forms, scipy and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attnbench.statistics.joint_means import bootstrap_joint_means, joint_means
from benchmarks.studies.coverage import Design, run


def test_one_setting_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.4, 1, (2, 12))
    means = joint_means((first - second)[None, :, None])
    expected = stats.ttest_rel(first, second)
    assert means.estimates[0] == pytest.approx(np.mean(first - second))
    assert means.p_values()[0] == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert means.intervals()[0] == pytest.approx([interval.low, interval.high])


def test_settings_without_a_common_target_are_welch_s_test() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(1, 1, 6), rng.normal(2, 3, 9)
    values = np.full((2, 15, 1), np.nan)
    values[0, :6, 0], values[1, 6:, 0] = first, second
    means = joint_means(values)
    # The mean of two means is half the difference from the negative of one of them.
    expected = stats.ttest_ind(first, -second, equal_var=False)
    assert means.p_values()[0] == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert means.intervals()[0] == pytest.approx([interval.low / 2, interval.high / 2])


def test_settings_of_the_same_targets_are_a_t_test_of_their_means() -> None:
    values = np.random.default_rng(2).normal(0.3, 1, (3, 10))
    means = joint_means(values[..., None])
    assert means.p_values()[0] == pytest.approx(stats.ttest_1samp(values.mean(axis=0), 0).pvalue)
    assert means.targets == 10


def test_a_task_that_repeats_another_adds_no_certainty() -> None:
    values = np.random.default_rng(3).normal(0.3, 1, (1, 10, 1))
    once, twice = joint_means(values), joint_means(np.repeat(values, 2, axis=0))
    assert twice.intervals() == pytest.approx(once.intervals())
    assert twice.p_values() == pytest.approx(once.p_values())


def test_partly_shared_targets_match_the_formula() -> None:
    """Ten targets are in two settings, six only in the first one: two strata."""
    rng = np.random.default_rng(4)
    values = rng.normal(0.3, 1, (2, 16, 1))
    values[1, 10:] = np.nan
    means = joint_means(values)
    shared = values[0, :10, 0] / 32 + values[1, :10, 0] / 20
    alone = values[0, 10:, 0] / 32
    parts = np.array([10 * shared.var(ddof=1), 6 * alone.var(ddof=1)])
    assert means.estimates[0] == pytest.approx(np.nanmean(values, axis=1).mean())
    assert means.errors[0] == pytest.approx(np.sqrt(parts.sum()))
    assert means.freedoms[0] == pytest.approx(parts.sum() ** 2 / (parts**2 / [9, 5]).sum())


def test_a_target_alone_in_its_stratum_joins_the_largest() -> None:
    values = np.random.default_rng(5).normal(0, 1, (2, 8, 1))
    values[1, 7] = np.nan
    means = joint_means(values)
    sums = values[0, :, 0] / 16 + np.nan_to_num(values[1, :, 0]) / 14
    assert means.errors[0] == pytest.approx(np.sqrt(8 * sums.var(ddof=1)))
    assert means.freedoms[0] == pytest.approx(7)


def test_a_single_target_has_no_interval() -> None:
    values = np.random.default_rng(6).normal(1, 1, (2, 5, 1))
    values[1, 1:] = np.nan
    means = joint_means(values)
    assert np.isfinite(means.estimates).all() and means.estimate(0).interval is None
    assert np.isnan([means.errors, means.p_values(), means.detectable()]).all()


def test_unequal_targets_are_refused() -> None:
    values = np.zeros((1, 3, 2))
    values[0, 0, 1] = np.nan
    with pytest.raises(ValueError, match="some values of a target"):
        joint_means(values)
    with pytest.raises(ValueError, match="has no target"):
        joint_means(np.full((1, 3, 2), np.nan))


def test_equal_values_are_certain() -> None:
    means = joint_means(np.stack([np.zeros((1, 4)), np.ones((1, 4))], axis=-1))
    assert means.p_values().tolist() == [1.0, 0.0]
    assert means.intervals().tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert means.detectable().tolist() == [0.0, 0.0]


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_the_order_of_settings_and_targets_does_not_matter(number: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (3, 3 * number, 2))
    values[0, :number], values[2, 2 * number :] = np.nan, np.nan
    shuffled = values[rng.permutation(3)][:, rng.permutation(3 * number)]
    assert joint_means(shuffled).intervals() == pytest.approx(joint_means(values).intervals())


@pytest.mark.parametrize("level", [0.05, 0.005])
def test_a_detectable_difference_is_found_as_often_as_promised(level: float) -> None:
    values = np.random.default_rng(7).normal(0, 1, (1, 30, 1))
    means = joint_means(values)
    shift = means.detectable(level)[0] / means.errors[0]
    critical = stats.t.ppf(1 - level / 2, 29)
    assert stats.nct.sf(critical, 29, shift) == pytest.approx(0.8, abs=0.01)


def test_so_many_more_targets_would_be_enough() -> None:
    values = np.random.default_rng(8).normal(0, 3, (1, 200))
    values += 0.2 - values.mean()
    few = joint_means(values[..., None])
    more = few.more_targets()[0]
    # Repeating the targets keeps their variance, but for its degrees of freedom.
    many = joint_means(np.resize(values, (1, 200 + int(more)))[..., None])
    assert many.detectable()[0] == pytest.approx(0.2, rel=0.02)
    assert joint_means(values[..., None] + 9).more_targets()[0] == 0


def test_the_bootstrap_has_the_standard_error_over_targets() -> None:
    rng = np.random.default_rng(9)
    values = rng.normal(0.3, 1, (2, 40, 1)) + rng.normal(0, 1, (1, 40, 1))
    values[1, 20:] = np.nan
    means = joint_means(values)
    replicates = bootstrap_joint_means(values, replicates=20_000)
    # The bootstrap divides by n where the sample variance divides by n - 1.
    assert replicates.std() == pytest.approx(means.errors[0] * np.sqrt(19 / 20), rel=0.02)
    assert replicates.mean() == pytest.approx(means.estimates[0], abs=0.01)


@pytest.mark.parametrize(
    "design",
    [
        Design("photographs", 30, 3, 60, 60, 600),
        Design("near the ceiling", 30, 3, 60, 60, 600, strength=4.0),
        Design("digits of three seeds", 10, 1, 20, 80, 0, seeds=3),
    ],
    ids=lambda design: design.name,
)
def test_intervals_and_tests_are_calibrated(design: Design) -> None:
    """A small version of the study in docs/leaderboard.md; 3 standard errors are allowed."""
    experiments = 250
    outcomes = run(design, experiments)
    allowed = 3 * np.sqrt(0.05 * 0.95 / experiments)
    assert 0.93 - allowed <= outcomes.coverage <= 0.97 + allowed
    assert outcomes.false_positive.mean() <= 0.05 + allowed
    assert outcomes.any_false_positive.mean() <= 0.05 + allowed


@pytest.mark.parametrize("targets", [(30, 10), (5, 10)])
def test_intervals_over_two_groups_of_targets_are_calibrated(targets: tuple[int, int]) -> None:
    """Three tasks share their targets; a fourth one, whose targets vary more, has its own."""
    rng = np.random.default_rng(10)
    first, second = targets
    values = np.full((4, first + second, 4000), np.nan)
    values[:3, :first] = rng.normal(0, 0.3, (1, first, 4000)) + rng.normal(0, 0.3, (3, first, 4000))
    values[3, first:] = rng.normal(0, 0.6, (second, 4000))
    low, high = joint_means(values).intervals().T
    assert 0.935 <= ((low <= 0) & (high >= 0)).mean() <= 0.965
