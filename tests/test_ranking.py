"""Tests against a control, ranks and Pareto margins, against published examples and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.statistics.intervals import Floats
from attnbench.statistics.ranking import (
    holm,
    mean_of_known,
    paired_differences,
    pareto_margins,
    rank_methods,
)


def methods(means: list[float], rng: np.random.Generator, noise: float = 0.3) -> Floats:
    """Return values of methods with these means, `[m, 1 setting, 20 targets, 1 episode]`."""
    targets = rng.normal(0, 1, (1, 20))
    return (
        np.array(means)[:, None, None, None]
        + (targets + rng.normal(0, noise, (len(means), 1, 20)))[..., None]
    )


def test_each_method_is_tested_against_the_control_and_the_better_ones_against_each_other() -> None:
    values = methods([0.0, 0.0, 1.0, 2.0, 2.0, -1.0], np.random.default_rng(0))
    control, tested = values[0], np.arange(6) > 0
    ranking = rank_methods(values, control, tested)
    assert ranking.verdicts.tolist() == [0, 0, 1, 1, 1, -1]
    assert (ranking.tests, ranking.pairs) == (5, 3)
    # Two methods are better than the third; these two could not be distinguished. The second method
    # was not distinguished from the control, and nothing is known about its rank.
    assert ranking.ranks.tolist() == [[4, 5], [1, 6], [3, 4], [1, 3], [1, 3], [5, 6]]


def test_without_a_control_all_pairs_are_tested() -> None:
    values = methods([1.0, 0.0, 2.0], np.random.default_rng(1))
    ranking = rank_methods(values, None, np.ones(3, bool))
    assert ranking.differences is None and (ranking.tests, ranking.pairs) == (0, 3)
    assert ranking.ranks.tolist() == [[2, 2], [3, 3], [1, 1]]


def test_a_single_target_tells_nothing_apart() -> None:
    values = methods([0.0, 5.0], np.random.default_rng(2))[:, :, :1]
    ranking = rank_methods(values, values[0], np.array([False, True]))
    assert ranking.verdicts.tolist() == [0, 0]
    assert rank_methods(values, None, np.ones(2, bool)).ranks.tolist() == [[1, 2], [1, 2]]


def test_differences_are_paired_by_episode() -> None:
    """The second method lacks a seed, in which the first one did badly."""
    first = np.array([[[1.0, -9.0], [2.0, 2.0]]])
    second = np.array([[[0.5, np.nan], [1.0, 3.0]]])
    differences = paired_differences(first[None], second)
    assert differences.tolist() == [[[0.5], [0.0]]]
    assert np.isnan(mean_of_known(np.array([np.nan, np.nan])))


@pytest.mark.parametrize("number", [5, 30])
def test_equal_methods_are_rarely_told_apart(number: int) -> None:
    """At most 5 % of leaderboards have a wrong verdict, and as many without a control a wrong rank."""
    rng = np.random.default_rng(3)
    wrong_verdict = wrong_rank = 0
    experiments = 200
    for _ in range(experiments):
        values = methods([0.0] * number, rng)
        against_control = rank_methods(values[1:], values[0], np.ones(number - 1, bool))
        wrong_verdict += (against_control.verdicts != 0).any()
        ranks = rank_methods(values, None, np.ones(number, bool)).ranks
        wrong_rank += (ranks != [1, number]).any()
    allowed = experiments * 0.05 + 3 * np.sqrt(experiments * 0.05 * 0.95)
    assert wrong_verdict <= allowed and wrong_rank <= allowed


@given(st.integers(0, 2**32 - 1))
def test_the_rank_intervals_contain_the_ranks_of_clear_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    means = rng.permutation(6).astype(float)
    ranking = rank_methods(methods(means.tolist(), rng, 0.05), None, np.ones(6, bool))
    true = 6 - means
    assert (ranking.ranks[:, 0] == true).all() and (ranking.ranks[:, 1] == true).all()


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


def test_pareto_margins() -> None:
    benefits = np.array([1.0, 2.0, 3.0, 2.5])
    costs = np.array([[0, 1], [5, 1], [5, 9], [9, 9]])
    expected = [np.inf, 1.0, 1.0, -0.5]
    assert pareto_margins(benefits, costs).tolist() == expected
    replicates = np.stack([benefits, benefits + 1])
    assert pareto_margins(replicates, costs).tolist() == [expected, expected]
    assert pareto_margins(np.ones(2), np.zeros((2, 1))).tolist() == [0.0, 0.0]
