"""Where methods stand: comparable means only, and no better place from a noisier measurement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnbench.leaderboard.markdown import markdown_of
from attnbench.leaderboard.standings import Standings, StandingsRow, standings_of
from attnbench.records.record import Record
from attnbench.statistics.detection import detect
from attnbench.statistics.intervals import Floats
from tests.leaderboard.conftest import TASKS, Make

VERDICTS = ("below", "not distinguished", "above")


def values(rng: np.random.Generator, mean: float, spread: float = 0.2, seeds: int = 3) -> Floats:
    """Return d_a of a method on 12 targets of the three tasks, `[3, 12, seeds]`."""
    by_target = rng.normal(mean, spread, (1, 12, 1))
    return by_target + rng.normal(0, spread, (3, 12, seeds))


def board(*records: list[Record]) -> Standings:
    (standings,) = standings_of([one for of_method in records for one in of_method], {}, {})
    return standings


def rows_of(standings: Standings) -> dict[str, StandingsRow]:
    return {row.method.submission: row for row in standings.rows}


def places(standings: Standings) -> list[tuple[str, str, tuple[int, int] | None]]:
    """Return the name, verdict and ranks of each compared method, in order."""
    return [
        (row.method.submission, row.placement.verdict, row.placement.ranks)
        for row in standings.rows
        if not row.placement.lacking
    ]


def test_each_method_is_above_below_or_not_distinguished(make: Make) -> None:
    rng = np.random.default_rng(0)
    standings = board(
        make("bias_only", values(rng, 1.5)),
        make("best", values(rng, 3.5)),
        make("good", values(rng, 2.5)),
        make("same", values(rng, 1.5)),
        make("bad", values(rng, 0.5)),
    )
    assert places(standings) == [
        ("best", "above", (1, 2)),
        ("good", "above", (2, 3)),
        ("bias_only", "control", (3, 4)),
        ("same", "not distinguished", (1, 5)),
        ("bad", "below", (4, 5)),
    ]
    assert (standings.tests, standings.pairs) == (4, 1)
    assert (standings.targets, standings.seeds, len(standings.compared)) == (12, 3, 3)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(-1, 1), st.sampled_from(["targets", "seeds", "tasks"]))
def test_a_method_that_lacks_something_stands_below(
    make: Make, seed: int, advantage: float, lacking: str
) -> None:
    """Even if what it leaves out is what it is worst at."""
    rng = np.random.default_rng(seed)
    original = values(rng, 1.5 + advantage)
    copy = {
        "targets": original[:, np.argsort(-original.mean(axis=(0, 2)))[:6]],
        "seeds": original[..., [int(original.mean(axis=(0, 1)).argmax())]],
        "tasks": original[[int(original.mean(axis=(1, 2)).argmax())]],
    }[lacking]
    standings = board(
        make("bias_only", values(rng, 1.5)),
        make("original", original),
        make("copy", copy, TASKS[: len(copy)]),
    )
    names = [row.method.submission for row in standings.rows]
    assert names.index("original") < names.index("copy")
    placement = rows_of(standings)["copy"].placement
    assert placement.verdict == "" and placement.ranks is None and placement.d_a is None
    assert placement.lacking.endswith(lacking)


def d_as(rng: np.random.Generator, strength: float, noise: float) -> tuple[Floats, Floats]:
    """Return d_a `[3, 12, 1]` of a detector, and that of a copy with noise added to its scores."""
    present = np.arange(80) < 40
    original, copy = np.empty((2, 3, 12, 1))
    for place in np.ndindex(3, 12, 1):
        scores = rng.normal(strength * present)
        original[place] = detect(scores, present).d_a
        copy[place] = detect(scores + rng.normal(0, noise, 80), present).d_a
    return original, copy


@pytest.mark.parametrize("strength", [1.0, 1.8, 2.5])
def test_a_noisy_copy_never_stands_above_its_original(make: Make, strength: float) -> None:
    """The control has a strength of 1.5, so the original is below, level with or above it."""
    for seed in range(15):
        rng = np.random.default_rng(seed)
        control, _ = d_as(rng, 1.5, 0.0)
        original, copy = d_as(rng, strength, 1.0)
        standings = board(
            make("bias_only", control), make("original", original), make("copy", copy)
        )
        found = rows_of(standings)
        names = [row.method.submission for row in standings.rows]
        assert names.index("original") < names.index("copy")
        original_placement, copy_placement = (
            found[name].placement for name in ("original", "copy")
        )
        verdicts = [VERDICTS.index(p.verdict) for p in (original_placement, copy_placement)]
        assert verdicts[1] <= verdicts[0]
        assert original_placement.ranks is not None and copy_placement.ranks is not None
        assert copy_placement.ranks[1] >= original_placement.ranks[1]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(-1, 1), st.floats(0.1, 1))
def test_noise_that_leaves_the_estimate_alone_lowers_the_place(
    make: Make, seed: int, advantage: float, noise: float
) -> None:
    rng = np.random.default_rng(seed)
    control = values(rng, 1.5, seeds=1)
    steady = control + advantage + rng.normal(0, 0.1, (1, 12, 1))
    deviations = (steady - control) - (steady - control).mean()
    noisy = steady + noise * deviations  # the same mean, and a wider interval
    standings = board(make("bias_only", control), make("noisy", noisy), make("steady", steady))
    found = rows_of(standings)
    names = [row.method.submission for row in standings.rows]
    assert names.index("steady") < names.index("noisy")
    verdicts = [VERDICTS.index(found[name].placement.verdict) for name in ("steady", "noisy")]
    if advantage > 0:
        assert verdicts[1] <= verdicts[0]


def test_a_method_with_one_task_changes_nobody_s_place(make: Make) -> None:
    rng = np.random.default_rng(1)
    records = [
        make("bias_only", values(rng, 1.5)),
        make("good", values(rng, 2.5)),
        make("better", values(rng, 3.0)),
        make("same", values(rng, 1.5)),
    ]
    before, after = board(*records), board(*records, make("new", values(rng, 9)[:1], TASKS[:1]))
    assert places(after) == places(before)
    assert (after.tests, after.pairs, after.detectable) == (
        before.tests,
        before.pairs,
        before.detectable,
    )
    assert after.compared == before.compared and after.front == before.front
    assert after.rows[-1].method.submission == "new"
    assert after.rows[-1].placement.lacking == "2 of 3 tasks"


def test_a_task_without_the_control_is_shown_but_not_in_the_means(make: Make) -> None:
    rng = np.random.default_rng(2)
    records = make("bias_only", values(rng, 1.5)), make("good", values(rng, 2.5))
    alone, more = board(*records), board(*records, make("good", values(rng, 0)[:1], ["another"]))
    assert len(more.settings) == 4 and len(more.compared) == 3
    assert rows_of(more)["good"].placement == rows_of(alone)["good"].placement
    assert "(another)" in markdown_of([more], "")


def test_targets_without_a_label_are_apart(make: Make) -> None:
    rng = np.random.default_rng(3)
    records = [
        make("bias_only", values(rng, 1.5)),
        make("probe", values(rng, 1.0)),
        make("probe", values(rng, 1.0)[:2], ["cifar-ssl", "another"], has_label=False),
        make("better", values(rng, 2.0)[:2], ["cifar-ssl", "another"], has_label=False),
        make("partial", values(rng, 3.0)[:1], ["cifar-ssl"], has_label=False),
    ]
    labelled, new = standings_of([one for of_one in records for one in of_one], {}, {})
    assert (labelled.name, new.name) == ("mini", "mini, targets without a label")
    assert [row.method.submission for row in labelled.rows] == ["bias_only", "probe"]
    assert places(new) == [("better", "", (1, 1)), ("probe", "", (2, 2))]
    assert new.rows[-1].placement.lacking == "1 of 2 tasks"
    assert new.rows[0].placement.difference is None and new.pairs == 1
    assert "bias_only has no result here" in markdown_of([new], "")


def test_a_failure_in_one_task_loses_the_mean(make: Make) -> None:
    rng = np.random.default_rng(4)
    broken = make("broken", values(rng, 3.0))
    broken[0] = broken[0].model_copy(update={"status": "failed", "reason": "it broke"})
    standings = board(make("bias_only", values(rng, 1.5)), broken)
    assert standings.rows[-1].placement.lacking == "1 of 3 tasks"
    assert "broken on alpha-blend: it broke" in markdown_of([standings], "")


def test_a_single_target_gets_no_verdict(make: Make) -> None:
    rng = np.random.default_rng(5)
    standings = board(
        make("bias_only", values(rng, 1.5)[:, :1]), make("better", values(rng, 4)[:, :1])
    )
    assert places(standings) == [("better", "", None), ("bias_only", "", None)]
    assert standings.detectable is None
    assert "A single target says nothing about other targets" in markdown_of([standings], "")


def test_the_mean_and_its_difference_match_an_independent_computation(make: Make) -> None:
    rng = np.random.default_rng(6)
    control, method = values(rng, 1.5), values(rng, 2.0)
    placement = rows_of(board(make("bias_only", control), make("x", method)))["x"].placement
    by_target = (method - control).mean(axis=(0, 2))
    error = by_target.std(ddof=1) / np.sqrt(12)
    assert placement.d_a is not None and placement.difference is not None
    assert placement.d_a.value == pytest.approx(method.mean())
    assert placement.difference.value == pytest.approx(by_target.mean())
    assert placement.difference.interval == pytest.approx(
        (by_target.mean() - 2.201 * error, by_target.mean() + 2.201 * error), rel=1e-4
    )
