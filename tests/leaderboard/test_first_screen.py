"""Every number of the standings, recomputed from the files beside the records without attnbench."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t
from sklearn.metrics import roc_auc_score

from attnbench.commands.leaderboard import build_leaderboard
from attnbench.leaderboard.site.builder import site_files

PUBLISHED = Path(__file__).parents[2] / "published"
CONTROL = "bias_only"
# By method, and by task and backbone: d_a and d' of each target.
Measured = Mapping[str, Mapping[tuple[str, str], pd.DataFrame]]


class Tables(HTMLParser):
    """Collects the text of the cells of a page's tables, by the id of the section they are in."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = defaultdict(list)
        self._section, self._is_cell = "", False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self._section = dict(attrs).get("id") or ""
        elif tag == "tr":
            self.rows[self._section].append([])
        elif tag in ("td", "th"):
            self._is_cell = True
            self.rows[self._section][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._is_cell = False

    def handle_data(self, data: str) -> None:
        if self._is_cell:
            self.rows[self._section][-1][-1] += data


def test_images(path: Path, record: Mapping[str, Any]) -> pd.DataFrame:
    """Return target, present and score of each test image of a record."""
    scores = pd.read_parquet(path.with_suffix(".parquet"))
    images = path.with_name(f"images-{record['test_images_sha256'][:16]}.parquet")
    return pd.read_parquet(images).assign(score=scores["score"])


test_images.__test__ = False  # type: ignore[attr-defined]


def measures_of(images: pd.DataFrame) -> pd.Series:
    """d_a and d' of one target: sqrt(2) z(AUC), and z(H) - z(F) with the log-linear correction.

    The correction adds one trial, divided by the shares of the classes (Hautus 1995).
    """
    present = images["present"].to_numpy()
    score = images["score"].to_numpy()
    positives, negatives = present.sum(), (~present).sum()
    half = 1 / (2 * positives * negatives)
    area = np.clip(roc_auc_score(present, score), half, 1 - half)
    share = positives / len(present)
    hits, false_alarms = ((score > 0) & present).sum(), ((score > 0) & ~present).sum()
    hit_rate = (hits + share) / (positives + 2 * share)
    false_alarm_rate = (false_alarms + 1 - share) / (negatives + 2 * (1 - share))
    return pd.Series(
        {
            "d_a": np.sqrt(2) * norm.ppf(area),
            "d_prime": norm.ppf(hit_rate) - norm.ppf(false_alarm_rate),
        }
    )


@pytest.fixture(scope="module")
def measured() -> Measured:
    """The measures of every record of `mini` whose targets are labels of the backbone."""
    found: dict[str, dict[tuple[str, str], pd.DataFrame]] = defaultdict(dict)
    for path in sorted(PUBLISHED.glob("mini/*/*.json")):
        record = json.loads(path.read_text())
        labelled = all(episode["has_label"] for episode in record["episodes"])
        if record["status"] == "ok" and labelled:
            identity = record["identity"]
            by_target = test_images(path, record).groupby("target")
            found[identity["submission"]][identity["task"], identity["backbone"]] = by_target.apply(
                measures_of
            )
    return found


@pytest.fixture(scope="module")
def standings() -> dict[str, list[str]]:
    """The cells of each row of the standings of `mini`, by method."""
    board = build_leaderboard([PUBLISHED])
    page = dict(site_files(board.entries, board.boards))["index.html"].decode()
    tables = Tables()
    tables.feed(page)
    return {row[0]: row for row in tables.rows["track-mini"] if row[0] != "method"}


def numbers(cell: str) -> list[float]:
    return [float(n.replace("−", "-")) for n in re.findall(r"[+−]?\d+(?:\.\d+)?", cell)]


def joint(values: Mapping[tuple[str, str], pd.Series]) -> tuple[float, float, float, float]:
    """The mean over settings of means over targets: estimate, interval, and p.

    Targets are grouped by the settings that have them (docs/leaderboard.md).
    """
    sums: dict[str, float] = defaultdict(float)
    member: dict[str, frozenset[tuple[str, str]]] = defaultdict(frozenset)
    for setting, by_target in values.items():
        for target, value in by_target.items():
            sums[str(target)] += value / (len(values) * len(by_target))
            member[str(target)] |= {setting}
    groups = pd.Series(sums).groupby(pd.Series(member))
    parts = groups.count() * groups.var()
    variance = parts.sum()
    freedom = variance**2 / (parts**2 / (groups.count() - 1)).sum()
    mean, error = sum(sums.values()), np.sqrt(variance)
    half = t.ppf(0.975, freedom) * error
    p = 2 * t.sf(abs(mean) / error, freedom) if error else 1.0
    return mean, mean - half, mean + half, float(p)


def test_the_standings_are_those_of_the_scores(
    measured: Measured, standings: Mapping[str, list[str]]
) -> None:
    settings = measured[CONTROL].keys()
    compared = [name for name in standings if measured[name].keys() >= settings]
    assert len(compared) > 15
    tested: dict[str, tuple[float, float, float, float]] = {}
    for name in compared:
        cells = standings[name]
        for column, measure in ((2, "d_prime"), (3, "d_a")):
            found = joint({key: measured[name][key][measure] for key in settings})
            assert numbers(cells[column]) == pytest.approx(found[:3], abs=0.0051), (name, measure)
        if name == CONTROL:
            continue
        tested[name] = joint(
            {key: measured[name][key]["d_a"] - measured[CONTROL][key]["d_a"] for key in settings}
        )
        assert numbers(cells[4]) == pytest.approx(tested[name][:3], abs=0.0051), name
    # Holm: from the smallest p on, until one is above its share of 5 %.
    in_order = sorted(tested, key=lambda name: tested[name][3])
    passes = [
        tested[name][3] <= 0.05 / (len(tested) - place) for place, name in enumerate(in_order)
    ]
    rejected = in_order[: passes.index(False) if False in passes else None]
    for name, (difference, *_) in tested.items():
        verdict = "above" if difference > 0 else "below"
        verdict = verdict if name in rejected else "not distinguished"
        assert standings[name][1].startswith(verdict), name


def test_costs_are_those_of_the_records(standings: Mapping[str, list[str]]) -> None:
    for name, cells in standings.items():
        costs = [
            episode["cost"]
            for path in PUBLISHED.glob(f"mini/*/{name}@*.json")
            for episode in json.loads(path.read_text())["episodes"]
            if episode["cost"] and episode["has_label"]
        ]
        counts = [cost["parameters_added"] + cost["parameters_changed"] for cost in costs]
        assert {int(n.replace(",", "")) for n in re.findall(r"[\d,]+", cells[5])} == {
            min(counts),
            max(counts),
        }
