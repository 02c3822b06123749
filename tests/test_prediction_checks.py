"""The budget of a prediction, deferred work, and scores that depend on more than their image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.judge.prediction_checks import (
    budget_seconds,
    choose_repeated,
    count_different,
    deferred_seconds,
)


def test_batches_of_similar_speed_defer_no_work() -> None:
    assert deferred_seconds([64, 64, 64, 48], [0.020, 0.022, 0.025, 0.016]) == 0.0


def test_slow_first_batch_counts_as_deferred_work_only_if_very_slow() -> None:
    assert deferred_seconds([48] * 10, [0.045, *[0.005] * 9]) == 0.0
    assert deferred_seconds([48] * 10, [0.085, *[0.005] * 9]) == pytest.approx(0.080)


@pytest.mark.parametrize("batch", range(4))
def test_work_deferred_to_any_batch_is_counted(batch: int) -> None:
    seconds = [0.02] * 4
    seconds[batch] += 0.6
    assert deferred_seconds([64] * 4, seconds) == pytest.approx(0.6)


def test_budget_is_proportional_to_the_number_of_images() -> None:
    # A pass over 50 images takes 1 s. Twenty passes over 200 images take 80 s, and 5 s come on top.
    assert budget_seconds(1.0, 50, 200) == pytest.approx(85.0)


@given(st.integers(1, 500), st.integers(0, 2**32))
def test_repeated_images_are_distinct(count: int, seed: int) -> None:
    repeated = choose_repeated(count, np.random.default_rng(seed))
    assert len(set(repeated)) == len(repeated) == min(24, count)
    assert repeated.max() < count


def test_rounding_makes_no_score_different_and_a_shift_does() -> None:
    scores = np.random.default_rng(0).normal(0, 2, 1000)
    assert count_different(scores, scores * (1 + 1e-6), scores) == 0
    assert count_different(scores, scores + 0.004, scores) <= 3
    assert count_different(scores, scores + 0.4, scores) > 700
    assert count_different(np.zeros(4), np.zeros(4), np.zeros(4)) == 0


def test_equal_scores_may_round_differently() -> None:
    scores = np.array([-20.0] * 500 + [3.0] * 500)
    rounded = scores * (1 + np.random.default_rng(0).normal(0, 1e-6, 1000))
    assert count_different(scores, rounded, scores) == 0


@given(st.floats(1e-30, 1e3), st.integers(0, 2**32))
def test_no_scale_of_the_scores_hides_a_shift(scale: float, seed: int) -> None:
    """A shift is noticed among tiny scores, and beside a few huge ones."""
    scores = np.random.default_rng(seed).normal(0, 1, 240)
    scores[:3] *= 1e9
    assert count_different(scale * scores, scale * (scores + 0.5), scale * scores) > 150
    compressed = np.where(np.abs(scores) < 0.7, 1e-6 * scores, scores)
    flipped = np.where(np.abs(scores) < 0.7, -compressed, compressed)
    assert count_different(scale * compressed, scale * flipped, scale * compressed) > 80
