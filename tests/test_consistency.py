"""Error consistency against other libraries and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from attnbench.statistics.consistency import consistency

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
    with pytest.raises(ValueError, match="same images"):
        consistency(np.ones(3, bool), np.ones(2, bool))
