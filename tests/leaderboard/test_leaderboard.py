"""The leaderboard page: deterministic, and safe whatever a record contains."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from attnbench.commands.leaderboard import build_leaderboard
from attnbench.leaderboard.entries import Entry
from attnbench.leaderboard.markdown import escape, markdown_of
from attnbench.leaderboard.order import order_correlations
from attnbench.leaderboard.score_summary import ScoreSummary, coarse_ranks, rank_correlation
from attnbench.leaderboard.staleness import count_stale
from attnbench.leaderboard.standings import standings_of
from attnbench.records.outcome import scores_table
from attnbench.records.record import Readout, Record
from attnbench.records.store import RecordStore
from attnbench.version import __version__
from tests.command_line import run

MakeRecord = Callable[..., Record]
ROOT = Path(__file__).parents[2]


def page_of(records: Sequence[Record], stale: int = 0) -> str:
    """The page for records that nobody has verified."""
    newest = max((record.created for record in records), default="")
    return markdown_of(standings_of(records, {}, {}), newest, stale)


def test_the_same_records_give_the_same_bytes_in_any_order(make_record: MakeRecord) -> None:
    records = [
        make_record(submission=name, seed=seed, track=track, d_prime=value)
        for name, value in (("one", 1.0), ("two", 2.0), ("three", 2.0))
        for seed in range(2)
        for track in ("mini", "small")
    ]
    expected = page_of(records)
    for seed in range(10):
        random.Random(seed).shuffle(records)
        assert page_of(records) == expected


def _rows(page: str) -> list[list[str]]:
    table = [line for line in page.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_failures_come_last_with_their_reason(make_record: MakeRecord) -> None:
    page = page_of(
        [
            make_record(submission="weak", d_a=0.5),
            make_record(submission="broken", reason="the scores of 3 images are NaN"),
            make_record(submission="strong", d_a=2.5),
        ]
    )
    rows = _rows(page)
    assert [row[1] for row in rows] == ["strong", "weak", "broken"]
    assert [row[2] for row in rows] == ["1", "2", "–"]
    assert "- broken on noisy-mnist: the scores of 3 images are NaN" in page
    assert rows[0][6] == "1.50 / 2.50"
    assert rows[2][:1] + rows[2][3:7] == ["failed", "–", "–", "–", "failed"]


def test_a_row_pools_the_seeds_of_one_submission_version(make_record: MakeRecord) -> None:
    page = page_of(
        [
            make_record(seed=0, d_prime=1.0),
            make_record(seed=1, d_prime=2.0),
            make_record(seed=2, d_prime=9.0, submission_sha256="f" * 64),
        ]
    )
    assert sorted(row[6] for row in _rows(page)) == ["1.50 / 1.80", "9.00 / 1.80"]


def test_each_track_has_a_table(make_record: MakeRecord) -> None:
    page = page_of([make_record(track="small"), make_record(track="mini")])
    assert page.index("## small") < page.index("## mini")
    assert "## full" not in page


def test_a_wrong_declared_number_of_parameters_is_shown_beside_the_measured_one(
    make_record: MakeRecord,
) -> None:
    assert "96 (declared 12)" in page_of([make_record(declared_parameters=12)])
    page = page_of([make_record(declared_parameters=96)])
    assert "declared" not in page.split("##")[1]


def test_argmax_readouts_have_their_own_table(make_record: MakeRecord) -> None:
    plain = make_record()
    assert "argmax" not in page_of([plain])
    readout = Readout(
        hits=30,
        positives=50,
        false_alarms=9,
        negatives=450,
        hit_rate=0.6,
        false_alarm_rate=0.02,
        d_prime=2.3,
        criterion=0.9,
    )
    episodes = [
        episode.model_copy(update={"readouts": {"argmax-all": readout}})
        for episode in plain.episodes
    ]
    page = page_of([plain.model_copy(update={"episodes": tuple(episodes)})])
    (row,) = [line for line in page.splitlines() if line.startswith("| noisy-mnist | argmax-all")]
    assert [cell.strip() for cell in row.split("|")[5:9]] == ["0.600", "0.0200", "2.30", "+0.90"]
    assert "argmax-targets |" not in page


def test_not_applicable_is_not_a_failure_and_a_missing_task_is_named(
    make_record: MakeRecord,
) -> None:
    inapplicable = make_record(task="cifar-ssl", submission="two", reason="no head")
    inapplicable = inapplicable.model_copy(update={"status": "not applicable"})
    page = page_of(
        [
            make_record(submission="bias_only"),
            make_record(submission="two", d_a=9.0),
            make_record(task="cifar-ssl", submission="bias_only"),
            inapplicable,
        ]
    )
    control, two = _rows(page)
    assert [control[1], two[1]] == [r"bias\_only", "two"] and control[0] == "control"
    assert two[0] == "lacks 1 of 2 tasks" and two[3] == "–" and "Failures" not in page
    assert two[6:8] == ["–", "1.50 / 9.00"]
    assert two[5].startswith("+7.20")  # on the task that both have


def test_d_a_is_compared_with_the_control(make_record: MakeRecord) -> None:
    control, better = make_record(submission="bias_only"), make_record(submission="better")
    episodes = [
        episode.model_copy(update={"measures": episode.measures.model_copy(update={"d_a": 2.3})})
        for episode in better.episodes
        if episode.measures is not None
    ]
    better = better.model_copy(update={"episodes": tuple(episodes)})
    cells = {row[1]: row[5] for row in _rows(page_of([control, better]))}
    assert cells[r"bias\_only"].startswith("+0.00") and cells["better"].startswith("+0.50")


def test_contended_times_are_not_shown(make_record: MakeRecord) -> None:
    alone = make_record(submission="alone")
    assert "had the device to itself" not in page_of([alone])
    contended = make_record(submission="contended", contended=True)
    page = page_of([alone, contended])
    assert "**—**: no episode had the device to itself" in page
    cells = {row[1]: row[9:13] for row in _rows(page)}
    assert cells == {
        "alone": ["96", "35", "0.500 s", "5.00"],
        "contended": ["96", "35", "—", "—"],
    }


def test_times_are_medians_over_uncontended_episodes(make_record: MakeRecord) -> None:
    record = make_record()
    first, second = record.episodes
    assert second.cost is not None
    slow = second.cost.model_copy(update={"adaptation_seconds": 90.0, "contended": True})
    episodes = (first, second.model_copy(update={"cost": slow}))
    page = page_of([record.model_copy(update={"episodes": episodes})])
    assert _rows(page)[0][11:13] == ["0.500 s", "5.00"]


def test_the_page_without_records_says_how_to_make_one() -> None:
    assert "attnbench evaluate submissions/attention" in page_of([])


def test_hostile_text_stays_in_its_line(make_record: MakeRecord) -> None:
    hostile = (
        "a | b\n# pwned <script>alert(1)</script> [x](javascript:y) `z` \x1b[31m \u202eabc " * 9
    )
    page = page_of([make_record(reason=hostile)])
    (row,) = [line for line in page.splitlines() if "pwned" in line]
    assert row.startswith("- made-up on noisy-mnist: ")
    for forbidden in ("<script", "\x1b", "\u202e"):
        assert forbidden not in page
    assert not re.search(r"(?<!\\)\]\(", page)


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain", "plain"),
        ("two\nlines", "two lines"),
        ("a|b", r"a\|b"),
        ("*_`", r"\*\_\`"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("日本語 é", "日本語 é"),
    ],
)
def test_escape(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_the_command_writes_the_page_and_checks_whether_it_is_up_to_date(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    store = RecordStore(tmp_path / "records")
    scores = scores_table("cat", ["1", "2"], np.array([True, False]), np.array([1.0, -1.0]))
    store.save(make_record(), scores)

    leaderboard = functools.partial(run, "leaderboard", folder=tmp_path)
    assert leaderboard("--check").returncode == 1
    assert leaderboard().returncode == 0
    first = (tmp_path / "leaderboard.md").read_bytes()
    assert leaderboard("--check").returncode == 0
    assert leaderboard().returncode == 0
    assert (tmp_path / "leaderboard.md").read_bytes() == first
    store.save(make_record(submission="another"), scores)
    outdated = leaderboard("--check")
    assert outdated.returncode == 1 and "attnbench leaderboard" in outdated.stderr
    missing = leaderboard("--records", "missing")
    assert missing.returncode == 2 and "missing is not a folder" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_seeds_from_several_machines_share_a_row_with_the_times_of_one_machine(
    make_record: MakeRecord,
) -> None:
    records = [
        make_record(seed=seed, device_name=device, seconds=seconds, contended=contended)
        for seed, device, seconds, contended in (
            (0, "a fast machine", 0.1, False),
            (1, "a busy machine", 9.0, True),
            (2, "another machine", 2.0, False),
            (3, "another machine", 2.0, False),
        )
    ]
    ((row,),) = (standings.rows for standings in standings_of(records, {}, {}))
    (result,) = row.results.values()
    assert row.costs is not None and result.seeds == 4
    assert (row.costs.device, row.costs.times.adaptation) == ("another machine", 2.0)
    assert (result.device, result.times.passes) == ("another machine", 20.0)
    ((contended,),) = (standings.rows for standings in standings_of(records[1:2], {}, {}))
    assert contended.costs is not None and contended.costs.times.adaptation is None
    assert contended.costs.device == "cpu"


def test_stale_records_are_counted_and_noted(make_record: MakeRecord) -> None:
    records = [
        make_record(attnbench=__version__),
        make_record(attnbench="0.0.1", seed=1),
        make_record(attnbench=f"0.0.1, {__version__}", seed=2, track="small"),
    ]
    assert count_stale(records) == 2
    assert "earlier version" not in page_of(records)
    heading, _, note, _, *_ = page_of(records, stale=2).splitlines()
    assert heading == "# Leaderboard"
    assert note == (
        "2 of 3 records were made with an earlier version of attnbench and will be made again."
    )


def test_the_published_leaderboard_is_up_to_date() -> None:
    board = build_leaderboard([ROOT / "published"])
    assert board.entries and not board.problems
    assert (ROOT / "leaderboard.md").read_bytes() == board.page


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(2, 3), st.floats(0, 3))
def test_the_rank_correlation_is_spearmans(seed: int, episodes: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    size = 300
    one = rng.standard_normal((episodes, size))
    # A threshold of its own for each episode changes nothing.
    other = np.exp(one + noise * rng.standard_normal(one.shape)) + 9 * np.arange(episodes)[:, None]
    summaries = []
    for scores in (one, other):
        ranks = np.concatenate([coarse_ranks(row) for row in scores])
        bits = np.packbits(ranks > 0)
        summaries.append(
            ScoreSummary(np.zeros(57), np.zeros(57), "", len(ranks), bits, bits, ranks)
        )
    exact = np.mean([spearmanr(*pair).statistic for pair in zip(one, other, strict=True)])
    assert rank_correlation(*summaries) == pytest.approx(exact, abs=1e-3)


def test_equal_scores_have_no_rank_correlation() -> None:
    ranks = coarse_ranks(np.zeros(10))
    bits = np.packbits(ranks > 0)
    summary = ScoreSummary(np.zeros(57), np.zeros(57), "", 10, bits, bits, ranks)
    assert np.isnan(rank_correlation(summary, summary))


def test_a_row_says_on_how_many_tasks_a_method_orders_images_as_the_control(
    entries: list[Entry],
) -> None:
    orders = order_correlations(entries)
    standings = standings_of([entry.record for entry in entries], {}, orders)
    page = markdown_of(standings, "")
    for of_track in standings:
        rows = {row.method.submission: row for row in of_track.rows}
        assert rows["none"].settings_in_order_of_control == 1
        for name in ("linear_probe", "prototype"):
            assert rows[name].settings_in_order_of_control == 0
        (correlation,) = rows["bias_only"].order_correlations.values()
        assert correlation == pytest.approx(1)
        assert set(orders[of_track.track]) == {
            row.method for row in of_track.rows if row.order_correlations
        }
    lines = [line for line in page.splitlines() if "order of bias" in line or "| none " in line]
    assert any("1 of 1" in line for line in lines)
