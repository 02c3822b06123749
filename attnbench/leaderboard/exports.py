"""All figures as tables for those who analyse them themselves: CSV, Parquet, how to cite them."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from attnbench import __version__
from attnbench.cli.text import printable
from attnbench.errors import AttnbenchError
from attnbench.leaderboard.agreement import Agreement, agreements
from attnbench.leaderboard.entries import Entry, grouped
from attnbench.leaderboard.standings import Contest, Standings
from attnbench.records.record import EpisodeResult
from attnbench.records.rows import COLUMNS, row_of

_COUNTS = (
    "seed",
    "targets",
    "hits",
    "positives",
    "false_alarms",
    "negatives",
    "parameters_added",
    "parameters_changed",
    "parameters_opaque",
    "artefact_bytes",
    "images",
)
_TRUTHS = ("contended", "untrained")
_OF_IDENTITY = ("submission", "submission_sha256", "task", "track", "backbone", "seed", "device")
_OF_MEASURES = (
    "hits",
    "positives",
    "false_alarms",
    "negatives",
    "hit_rate",
    "false_alarm_rate",
    "d_prime",
    "criterion",
    "d_a",
    "auc",
)
_OF_COST = (
    "parameters_added",
    "parameters_changed",
    "parameters_opaque",
    "artefact_bytes",
    "adaptation_seconds",
    "adaptation_seconds_cold",
    "pass_seconds",
    "prediction_seconds",
    "contended",
)
EPISODE_COLUMNS = (
    *_OF_IDENTITY,
    "target",
    "status",
    "reason",
    *_OF_MEASURES,
    *_OF_COST,
    "images_sha256",
    "badge",
    "record",
)
_OF_CONTEST = ("task", "task_sha256", "backbone", "untrained")
_OF_ENTRANT = ("submission", "submission_sha256", "device")
_OF_KAPPA = ("kappa", "kappa_low", "kappa_high", "kappa_largest")
CONSISTENCY_COLUMNS = (
    "track",
    *_OF_CONTEST,
    "trials",
    *(f"{name}_{side}" for side in "ab" for name in _OF_ENTRANT),
    *_OF_KAPPA,
    "images",
)
# What a spreadsheet would take for a formula.
_FORMULA = r"^([=+\-@])"


def results(entries: Sequence[Entry]) -> pd.DataFrame:
    """A row for each submission x task x track x backbone x seed (`attnbench.records.rows`).

    Text is on one line and bounded; paths are those in the records folder.
    """
    rows = [row_of(entry.record, entry.path) for entry in entries]
    return _frame(rows, COLUMNS)


def episodes(entries: Sequence[Entry]) -> pd.DataFrame:
    """A row for each episode: `EPISODE_COLUMNS`; without figures where it failed."""
    rows = [_episode_row(entry, episode) for entry in entries for episode in entry.record.episodes]
    return _frame(rows, EPISODE_COLUMNS)


def consistency(entries: Sequence[Entry], tracks: Mapping[str, Standings]) -> pd.DataFrame:
    """A row for every two methods of a contest, and for images with the target and without.

    As many methods of each contest as its plots have; `CONSISTENCY_COLUMNS`.
    """
    by_track = grouped(entries)
    rows = [
        row
        for track, standing in tracks.items()
        for contest in standing.contests
        for each in agreements(contest, standing, by_track[track][contest])
        for row in _agreement_rows(track, contest, each)
    ]
    return _frame(rows, CONSISTENCY_COLUMNS)


def _agreement_rows(
    track: str, contest: Contest, agreement: Agreement
) -> Iterator[dict[str, object]]:
    found = agreement.found
    for a, b in combinations(range(len(agreement.entrants)), 2):
        row: dict[str, object] = {"track": track, "trials": agreement.trials}
        row |= {name: getattr(contest, name) for name in _OF_CONTEST}
        for side, who in (("a", agreement.entrants[a]), ("b", agreement.entrants[b])):
            row |= {f"{name}_{side}": getattr(who, name) for name in _OF_ENTRANT}
        figures = (found.kappa, found.low, found.high, found.largest)
        row |= {
            name: None if np.isnan(values[a, b]) else float(values[a, b])
            for name, values in zip(_OF_KAPPA, figures, strict=True)
        }
        yield row | {"images": int(found.images[a, b])}


def exported(
    entries: Sequence[Entry], tracks: Mapping[str, Standings]
) -> Iterator[tuple[str, bytes]]:
    """The files of an export by their names, the same bytes for the same records.

    Args:
        entries: all records.
        tracks: the standings of each track, of these records.
    """
    for name, frame in (
        ("results", results(entries)),
        ("episodes", episodes(entries)),
        ("consistency", consistency(entries, tracks)),
    ):
        yield f"{name}.csv", _csv(frame)
        yield f"{name}.parquet", _parquet(frame)
    cited = citation(entries)
    yield "citation.bib", cited.encode()
    yield "README.md", _readme(entries, cited).encode()


def citation(entries: Sequence[Entry]) -> str:
    """A BibTeX entry for exactly these records."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(f"{entry.path}\0{entry.record.model_dump_json()}\0".encode())
    newest = max((entry.record.created[:10] for entry in entries), default="")
    dated = re.fullmatch(r"(\d{4})-\d{2}-\d{2}", newest)
    lines = [
        "@misc{attnbench-leaderboard,",
        "  title = {attnbench leaderboard},",
        "  author = {{The attnbench team and the authors of the submissions}},",
        *([f"  year = {{{dated[1]}}},"] if dated else []),
        f"  note = {{attnbench {__version__}, {len(entries):,} records"
        + (f", the newest of {newest}" if dated else "")
        + f", SHA-256 {digest.hexdigest()[:16]}}},",
        "}",
    ]
    return "\n".join(lines) + "\n"


def write_files(folder: Path, contents: Iterator[tuple[str, bytes]]) -> int:
    """Write files into a folder, made if need be; how many.

    Raises AttnbenchError where one cannot be written.
    """
    number = 0
    for name, content in contents:
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise AttnbenchError(f"{path} cannot be written: {error.strerror}") from None
        number += 1
    return number


def _episode_row(entry: Entry, episode: EpisodeResult) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(entry.record.identity, name) for name in _OF_IDENTITY}
    row |= {name: getattr(episode, name) for name in ("target", "status", "reason")}
    row |= {name: getattr(episode.measures, name, None) for name in _OF_MEASURES}
    row |= {name: getattr(episode.cost, name, None) for name in _OF_COST}
    row |= {"images_sha256": episode.images_sha256, "badge": entry.badge}
    return row | {"record": str(entry.path)}


def _frame(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    """Whole numbers stay whole where some are missing."""
    found: dict[str, Any] = {}
    for name in columns:
        values: list[Any] = [row[name] for row in rows]
        if name in _COUNTS:
            found[name] = pd.array(values, dtype="Int64")
        elif name in _TRUTHS:
            found[name] = pd.array(values, dtype="boolean")
        elif any(isinstance(value, str) for value in values):
            shown = {value: printable(value) for value in set(values)}
            found[name] = pd.array([shown[value] for value in values], dtype="string")
        else:
            found[name] = pd.array(values, dtype="float64")
    return pd.DataFrame(found)


def _csv(frame: pd.DataFrame) -> bytes:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    safe = [
        pc.replace_substring_regex(column, _FORMULA, r"'\1")
        if pa.types.is_large_string(column.type) or pa.types.is_string(column.type)
        else column
        for column in table.columns
    ]
    buffer = io.BytesIO()
    csv.write_csv(pa.table(safe, names=table.column_names), buffer)
    return buffer.getvalue()


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _readme(entries: Sequence[Entry], cited: str) -> str:
    template = files("attnbench.leaderboard").joinpath("export_readme.md").read_text("utf-8")
    tracks = sorted({entry.record.identity.track for entry in entries})
    submissions = {entry.record.identity.submission for entry in entries}
    return (
        template.replace("@RECORDS@", f"{len(entries):,}")
        .replace("@SUBMISSIONS@", f"{len(submissions):,}")
        .replace("@TRACKS@", ", ".join(tracks) or "none")
        .replace("@VERSION@", __version__)
        .replace("@CITATION@", cited.strip())
    )
