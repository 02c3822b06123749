"""The exports match the records and contain nothing that a spreadsheet would run."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd

from attnbench.leaderboard.entries import Entry
from attnbench.leaderboard.export_tables import (
    CONSISTENCY_COLUMNS,
    EPISODE_COLUMNS,
    STANDINGS_COLUMNS,
)
from attnbench.leaderboard.exports import export_files
from attnbench.records.rows import COLUMNS, row_of
from tests.leaderboard.conftest import boards_of


def test_spreadsheets_see_no_formula(hostile: list[Entry]) -> None:
    records = [
        entry.record.model_copy(update={"reason": "=HYPERLINK(1)", "status": "failed"})
        for entry in hostile
    ]
    entries = [
        Entry(Path("published"), e.path, r, e.badge, None)
        for e, r in zip(hostile, records, strict=True)
    ]
    files = dict(export_files(entries, boards_of(entries)))
    assert set(pd.read_csv(io.BytesIO(files["results.csv"]))["reason"]) == {"'=HYPERLINK(1)"}
    assert set(pd.read_parquet(io.BytesIO(files["results.parquet"]))["reason"]) == {"=HYPERLINK(1)"}


def test_exports_match_the_records(entries: list[Entry]) -> None:
    files = dict(export_files(entries, boards_of(entries)))
    expected = pd.DataFrame([row_of(entry.record, entry.file) for entry in entries])
    episodes = [(entry, episode) for entry in entries for episode in entry.record.episodes]
    for read_table, suffix in ((pd.read_csv, "csv"), (pd.read_parquet, "parquet")):
        table = read_table(io.BytesIO(files[f"results.{suffix}"]))
        assert tuple(table.columns) == COLUMNS
        for name in COLUMNS:
            if expected[name].isna().all():  # such as `other_numbers` of older records
                assert table[name].isna().all()
            elif expected[name].dtype.kind in "if":
                np.testing.assert_array_equal(
                    table[name].to_numpy(float), expected[name].astype(float)
                )
            elif name != "reason":
                shown = expected[name].map(str, na_action="ignore")
                assert list(table[name].fillna("")) == list(shown.fillna("")), name
        table = read_table(io.BytesIO(files[f"episodes.{suffix}"]))
        assert tuple(table.columns) == EPISODE_COLUMNS and len(table) == len(episodes)
        for row, (entry, episode) in zip(table.to_dict("records"), episodes, strict=True):
            assert row["submission"] == entry.record.identity.submission
            assert str(row["target"]) == episode.target
            if episode.measures is not None:
                assert row["d_prime"] == episode.measures.d_prime
                assert row["hits"] == episode.measures.hits


def test_the_citation_identifies_the_records(entries: list[Entry]) -> None:
    files = dict(export_files(entries, boards_of(entries)))
    citation, readme = files["citation.bib"].decode(), files["README.md"].decode()
    assert citation.startswith("@misc{") and f"{len(entries)} records" in citation
    fewer = dict(export_files(entries[1:], boards_of(entries[1:])))
    assert fewer["citation.bib"].decode() != citation
    assert citation.strip() in readme and "@RECORDS@" not in readme
    tables = COLUMNS, EPISODE_COLUMNS, STANDINGS_COLUMNS, CONSISTENCY_COLUMNS
    assert all(f"`{name}`" in readme for columns in tables for name in columns)


def test_the_table_of_standings_has_the_rows_of_the_page(entries: list[Entry]) -> None:
    boards = boards_of(entries)
    files = dict(export_files(entries, boards))
    for read_table, suffix in ((pd.read_csv, "csv"), (pd.read_parquet, "parquet")):
        table = read_table(io.BytesIO(files[f"standings.{suffix}"]))
        assert tuple(table.columns) == STANDINGS_COLUMNS
        rows = [row for board in boards for row in board.rows]
        assert list(table["submission"]) == [row.method.submission for row in rows]
        for cells, row in zip(table.to_dict("records"), rows, strict=True):
            if (difference := row.placement.difference) is not None:
                assert cells["difference"] == difference.value
                assert (cells["difference_low"], cells["difference_high"]) == difference.interval
            if row.placement.ranks is not None:
                assert (cells["rank_low"], cells["rank_high"]) == row.placement.ranks


def test_the_consistency_table_has_every_pair_once(entries: list[Entry]) -> None:
    files = dict(export_files(entries, boards_of(entries)))
    for read_table, suffix in ((pd.read_csv, "csv"), (pd.read_parquet, "parquet")):
        table = read_table(io.BytesIO(files[f"consistency.{suffix}"]))
        assert tuple(table.columns) == CONSISTENCY_COLUMNS
        keys = [
            "track",
            "backbone",
            "trials",
            *(c for c in CONSISTENCY_COLUMNS if c[-2:] in ("_a", "_b")),
        ]
        assert not table.duplicated(keys).any() and set(table["trials"]) == {"present", "absent"}
        defined = table[table["kappa"].notna()]
        assert len(defined) > 100
        assert (defined["kappa_low"] <= defined["kappa"]).all()
        assert (defined["kappa"] <= defined["kappa_high"]).all()
        assert (defined["kappa"] <= defined["kappa_largest"] + 1e-9).all()
