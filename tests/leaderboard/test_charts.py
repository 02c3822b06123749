"""The charts of the standings, and the sentence above them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from attnbench.leaderboard.entries import Entry
from attnbench.leaderboard.site.charts import _is_crowded, standings_chart
from attnbench.leaderboard.wording import summarise
from tests.leaderboard.conftest import Make, MakeRecord, boards_of
from tests.leaderboard.test_standings import board, rows_of, values


def test_a_chart_shows_the_standings(make: Make) -> None:
    rng = np.random.default_rng(0)
    standings = board(make("bias_only", values(rng, 1.5)), make("best", values(rng, 3.5)))
    rows = rows_of(standings)
    chart = standings_chart(standings, {row.method: "x.html" for row in standings.rows})
    assert chart is not None
    points = {point["label"]: point for point in chart.specification["data"]["values"]}
    assert {label: point["standing"] for label, point in points.items()} == {
        "bias_only": "the control",
        "best": "above the control",
    }
    for label, row in rows.items():
        point, placement = points[label], row.placement
        assert placement.d_a and placement.difference and placement.difference.interval
        assert row.costs and point["passes"] == row.costs.times.passes
        assert point["d_a"] == pytest.approx(placement.d_a.value, abs=1e-4)
        width = placement.difference.interval[1] - placement.difference.interval[0]
        assert point["high"] - point["low"] == pytest.approx(width, abs=2e-4)
    texts = {
        text
        for each in ElementTree.fromstring(chart.picture()).itertext()
        if (text := each.strip())
    }
    assert {"best", "the control", "d_a, mean over tasks"} <= texts


def test_methods_without_times_are_named_below_the_chart(make_record: MakeRecord) -> None:
    records = [
        make_record(submission="bias_only"),
        make_record(submission="timed"),
        make_record(submission="untimed", contended=True),
    ]
    standings = board(records)
    chart = standings_chart(standings, {row.method: "x.html" for row in standings.rows})
    assert chart is not None and "no times: untimed." in chart.description
    labels = {point["label"] for point in chart.specification["data"]["values"]}
    assert labels == {"bias_only", "timed"}
    assert standings_chart(board(records[2:]), {}) is None


def test_hostile_names_stay_text_in_a_chart(hostile: list[Entry]) -> None:
    for standings in boards_of(hostile):
        chart = standings_chart(standings, {row.method: "x.html" for row in standings.rows})
        if chart is not None:
            tags = {element.tag for element in ElementTree.fromstring(chart.picture()).iter()}
            assert not any(tag.endswith("script") for tag in tags)


def test_the_sentence_names_the_best_the_cheapest_and_attention(make: Make) -> None:
    rng = np.random.default_rng(0)
    control, attention = make("bias_only", values(rng, 1.5)), make("attention", values(rng, 1.5))
    best, quick = make("best", values(rng, 3.5)), make("quick", values(rng, 2.5))
    quick = [
        record.model_copy(
            update={
                "episodes": tuple(
                    episode.model_copy(
                        update={"cost": episode.cost.model_copy(update={"adaptation_seconds": 0.1})}
                    )
                    for episode in record.episodes
                    if episode.cost
                )
            }
        )
        for record in quick
    ]
    text = summarise(board(control, attention, best, quick))
    assert text.startswith("2 of 3 methods detect better than bias_only")
    assert "The best is best: +" in text and "The cheapest of them is quick: +" in text
    assert "attention is not distinguished from the control: " in text
    alone = summarise(board(control, attention))
    assert alone.startswith("None of 1 method is shown to detect better than bias_only")
    assert summarise(board(attention)) == ""


def test_labels_of_points_close_together_are_on_either_side() -> None:
    def point(label: str, d_a: float, passes: float) -> dict[str, object]:
        ends = {"low": d_a - 0.1, "high": d_a + 0.1}
        return {"label": label, "d_a": d_a, "passes": passes, "named": True, **ends}

    points = [point("a", 2.32, 0.45), point("b", 2.31, 0.44), point("c", 2.32, 5), point("d", 3, 1)]
    assert [_is_crowded(each, points) for each in points] == [False, True, False, False]
    equal = [point("a", 2.3, 1.0), point("b", 2.3, 1.0)]
    assert [_is_crowded(each, equal) for each in equal] == [True, False]
