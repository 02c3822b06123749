"""Error consistency with people, their d' and c, and shape bias: against other implementations."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from attnbench.statistics.consistency import consistency
from attnbench.statistics.detection import detect
from attnbench.statistics.people_consistency import people_consistency
from attnbench.statistics.people_detection import people_detection
from attnbench.statistics.shape_bias import shape_bias

Bools = NDArray[np.bool_]


@st.composite
def observers(draw: st.DrawFn) -> tuple[Bools, Bools]:
    """Decisions of two detectors and of three people on the same trials."""
    n = draw(st.integers(2, 40))
    rows = st.lists(st.booleans(), min_size=n, max_size=n)
    everybody = np.array(draw(st.lists(rows, min_size=5, max_size=5)))
    return everybody[:2], everybody[2:]


def _kappa(first: Bools, second: Bools) -> float:
    """Kappa by scikit-learn; NaN where it is undefined."""
    if len({*first.tolist(), *second.tolist()}) == 1:
        return float("nan")
    return float(cohen_kappa_score(first, second))


def _mean(values: list[float]) -> float | None:
    known = [value for value in values if not np.isnan(value)]
    return sum(known) / len(known) if known else None


@given(observers())
def test_means_of_kappa_are_those_of_scikit_learn(pair: tuple[Bools, Bools]) -> None:
    detectors, people = pair
    result = people_consistency(detectors, people, np.arange(people.shape[1]), replicates=20)
    expected = np.array([[_kappa(d, p) for p in people] for d in detectors])
    np.testing.assert_allclose(result.by_person, expected, atol=1e-9)
    for found, row in zip(result.detectors, expected.tolist(), strict=True):
        assert found.value == pytest.approx(_mean(row), abs=1e-9)
    pairs = [_kappa(a, b) for a, b in combinations(people, 2)]
    assert result.people.value == pytest.approx(_mean(pairs), abs=1e-9)
    largest = [consistency(a, b, replicates=1).largest for a, b in combinations(people, 2)]
    defined = [value for value in largest if value is not None]
    assert result.people.largest == pytest.approx(_mean(defined), abs=1e-9)


def test_a_detector_that_answers_as_person_3_did_has_kappa_1_with_person_3() -> None:
    people = np.random.default_rng(0).random((5, 80)) < 0.6
    result = people_consistency(people[2:3], people, np.arange(80), replicates=20)
    assert result.by_person[0, 2] == pytest.approx(1)
    assert np.delete(result.by_person[0], 2).max() < 0.5


def test_only_common_trials_count() -> None:
    rng = np.random.default_rng(1)
    detector, people = rng.random((1, 60)) < 0.5, rng.random((2, 60)) < 0.5
    known = np.ones((2, 60), bool)
    known[0, 30:], known[1, :20] = False, False
    result = people_consistency(detector, people, np.arange(60), known=known, replicates=10)
    assert result.by_person[0, 0] == pytest.approx(_kappa(detector[0, :30], people[0, :30]))
    assert result.people.value == pytest.approx(_kappa(people[0, 20:30], people[1, 20:30]))


def test_a_picture_is_resampled_with_all_its_trials() -> None:
    """Four copies of each trial say nothing new, unless they were of four pictures."""
    rng = np.random.default_rng(2)
    shared = rng.random(50) < 0.5
    people = np.array([np.where(rng.random(50) < 0.3, ~shared, shared) for _ in range(12)])
    detector = np.where(rng.random(50) < 0.3, ~shared, shared)[None]

    def width(repeats: int, pictures: NDArray[np.int64]) -> float:
        wide = people_consistency(
            np.repeat(detector, repeats, axis=1), np.repeat(people, repeats, axis=1), pictures
        )
        interval = wide.detectors[0].interval
        assert interval is not None
        return interval[1] - interval[0]

    once = width(1, np.arange(50))
    assert width(4, np.repeat(np.arange(50), 4)) == pytest.approx(once)
    assert width(4, np.arange(200)) < 0.8 * once


def test_the_interval_is_about_other_people_too() -> None:
    """With so many pictures, only people make a difference."""
    rng = np.random.default_rng(3)
    truth = rng.random(20_000) < 0.5
    errors = [0.05, 0.1, 0.2, 0.4]
    people = np.array([np.where(rng.random(20_000) < rate, ~truth, truth) for rate in errors])
    result = people_consistency(truth[None], people, np.arange(20_000) % 2_000, replicates=300)
    interval = result.detectors[0].interval
    assert interval is not None and interval[1] - interval[0] > 0.3
    assert result.by_person[0].min() - 0.02 < interval[0] < result.detectors[0].value  # type: ignore[operator]


def test_intervals_of_kappa_cover_the_truth() -> None:
    """People and pictures are drawn anew; kappa of independent observers is 0."""
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(40):
        detector, people = rng.random((1, 100)) < 0.6, rng.random((6, 100)) < 0.7
        result = people_consistency(detector, people, np.arange(100), replicates=200)
        interval = result.detectors[0].interval
        assert interval is not None
        covered += interval[0] <= 0 <= interval[1]
    assert covered >= 33


def test_kappa_is_undefined_where_nobody_ever_says_present() -> None:
    result = people_consistency(np.zeros((1, 9), bool), np.zeros((2, 9), bool), np.arange(9))
    assert result.people.value is result.detectors[0].value is result.people.interval is None
    with pytest.raises(ValueError, match="at least one trial"):
        people_consistency(np.zeros((1, 0), bool), np.zeros((2, 0), bool), np.arange(0))


def test_d_prime_and_criterion_of_people_are_those_of_detectors_with_their_answers() -> None:
    rng = np.random.default_rng(5)
    targets, present = np.repeat([0, 1], 60), np.tile(np.arange(60) < 20, 2)
    decisions = rng.random((3, 120)) < np.where(present, 0.7, 0.1)
    found = people_detection(decisions, present, targets)
    expected = [
        [detect(np.where(row, 1.0, -1.0)[targets == t], present[targets == t]) for t in (0, 1)]
        for row in decisions
    ]
    of_people = np.array([np.mean([one.d_prime for one in row]) for row in expected])
    assert found.d_prime.value == pytest.approx(of_people.mean())
    assert found.criterion.value == pytest.approx(
        np.mean([[one.criterion for one in row] for row in expected])
    )
    assert found.d_prime.interval is not None
    low, high = found.d_prime.interval
    assert (high - low) / 2 == pytest.approx(4.3027 * of_people.std(ddof=1) / 3**0.5, rel=1e-3)
    whole = [detect(np.where(row, 1.0, -1.0), present).d_prime for row in decisions]
    assert found.pooled_d_prime.value == pytest.approx(np.mean(whole))


def test_targets_that_a_person_has_no_positives_of_are_left_out_for_this_person() -> None:
    targets, present = np.repeat([0, 1], 20), np.tile(np.arange(20) < 10, 2)
    decisions = np.stack([present, present & (targets == 0)])
    decisions[0, 20:] = decisions[0, :20]
    known = np.ones((2, 40), bool)
    known[1, 20:30] = False
    both = people_detection(decisions, present, targets, known=known)
    one = people_detection(decisions[:1, :20], present[:20], targets[:20])
    assert both.d_prime.value == pytest.approx(one.d_prime.value)
    known[1] = False
    with pytest.raises(ValueError, match="each person"):
        people_detection(decisions, present, targets, known=known)


def test_shape_bias_is_by_pictures_with_exactly_one_cue() -> None:
    shape = np.repeat([True, True, False, False], [10, 5, 20, 5])
    texture = np.repeat([False, True, True, False], [10, 5, 20, 5])
    decisions = np.zeros((1, 40), bool)
    decisions[0, :6] = True  # 6 of 10 by shape
    decisions[0, 10:15] = True  # both cues: does not count
    decisions[0, 15:19] = True  # 4 of 20 by texture
    decisions[0, 35:] = True  # no cue: does not count
    found = shape_bias(decisions, shape, texture, np.arange(40), replicates=200)
    assert (found.by_shape, found.by_texture, found.trials) == (0.6, 0.2, (10, 20))
    assert found.bias == pytest.approx(0.75)
    assert found.interval is not None and found.interval[0] < 0.75 < found.interval[1]
    # The mean over observers; one who never answers has no bias.
    two = shape_bias(np.array([shape, texture]), shape, texture, np.arange(40), replicates=50)
    assert two.bias == pytest.approx(0.5) and two.interval == pytest.approx((0, 1))
    half = np.ones((1, 40), bool)
    half[0, 6:10] = False  # the answers that were wrong, by shape
    answered = shape_bias(decisions, shape, texture, np.arange(40), known=half, replicates=50)
    assert (answered.by_shape, answered.by_texture) == (1.0, 0.2)
    never = np.zeros((1, 40), bool)
    assert shape_bias(never, shape, texture, np.arange(40), replicates=50).bias is None
    with pytest.raises(ValueError, match="needs trials"):
        shape_bias(decisions, shape, shape, np.arange(40))
