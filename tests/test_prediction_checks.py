"""What prediction may cost, and that a score depends on its own image alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.judge.prediction_checks import (
    budget_seconds,
    choose_again,
    deferred_seconds,
    disagreeing,
)


def test_an_even_prediction_defers_nothing() -> None:
    assert deferred_seconds([64, 64, 64, 48], [0.020, 0.022, 0.025, 0.016]) == 0.0


def test_what_a_process_takes_at_its_first_batch_is_no_work_put_off() -> None:
    assert deferred_seconds([48] * 10, [0.045, *[0.005] * 9]) == 0.0
    assert deferred_seconds([48] * 10, [0.085, *[0.005] * 9]) == pytest.approx(0.080)


@pytest.mark.parametrize("which", range(4))
def test_work_put_off_to_any_batch_is_found(which: int) -> None:
    seconds = [0.02] * 4
    seconds[which] += 0.6
    assert deferred_seconds([64] * 4, seconds) == pytest.approx(0.6)


def test_the_budget_grows_with_the_images() -> None:
    # a pass over 50 images takes 1 s: 20 forwards over 200 images are 80 s
    assert budget_seconds(1.0, 50, 200) == pytest.approx(85.0)


@given(st.integers(1, 500), st.integers(0, 2**32))
def test_images_shown_again_are_distinct(count: int, seed: int) -> None:
    shown = choose_again(count, np.random.default_rng(seed))
    assert len(set(shown)) == len(shown) == min(24, count)
    assert shown.max() < count


def test_rounding_is_no_disagreement_and_a_shift_is() -> None:
    scores = np.random.default_rng(0).normal(0, 2, 1000)
    assert disagreeing(scores, scores * (1 + 1e-6), scores) == 0
    assert disagreeing(scores, scores + 0.004, scores) <= 3
    assert disagreeing(scores, scores + 0.4, scores) > 700
    assert disagreeing(np.zeros(4), np.zeros(4), np.zeros(4)) == 0


def test_many_equal_scores_may_be_rounded_otherwise() -> None:
    scores = np.array([-20.0] * 500 + [3.0] * 500)
    rounded = scores * (1 + np.random.default_rng(0).normal(0, 1e-6, 1000))
    assert disagreeing(scores, rounded, scores) == 0


@given(st.floats(1e-30, 1e3), st.integers(0, 2**32))
def test_there_is_no_scale_to_hide_a_shift_in(scale: float, seed: int) -> None:
    """Neither scores that are all very small, nor a few very large ones among them."""
    scores = np.random.default_rng(seed).normal(0, 1, 240)
    scores[:3] *= 1e9
    assert disagreeing(scale * scores, scale * (scores + 0.5), scale * scores) > 150
    squeezed = np.where(np.abs(scores) < 0.7, 1e-6 * scores, scores)
    turned = np.where(np.abs(scores) < 0.7, -squeezed, squeezed)
    assert disagreeing(scale * squeezed, scale * turned, scale * squeezed) > 80
