"""The leaderboard's data as CSV and Parquet files, with a README and a citation."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from attnbench.errors import AttnbenchError
from attnbench.files import write_file
from attnbench.leaderboard.entries import Entry
from attnbench.leaderboard.export_tables import (
    consistency,
    episodes,
    results,
    standings_table,
)
from attnbench.leaderboard.standings import Standings
from attnbench.version import __version__

# Text that a spreadsheet would run as a formula.
_FORMULA = r"^([=+\-@])"


def export_files(
    entries: Sequence[Entry], boards: Sequence[Standings]
) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of every file of an export; the same records give the same bytes.

    Args:
        entries: all records.
        boards: the standings of these records.
    """
    for name, frame in (
        ("results", results(entries)),
        ("episodes", episodes(entries)),
        ("standings", standings_table(boards)),
        ("consistency", consistency(entries, boards)),
    ):
        yield f"{name}.csv", _csv(frame)
        yield f"{name}.parquet", _parquet(frame)
    bibtex = citation(entries)
    yield "citation.bib", bibtex.encode()
    yield "README.md", _readme(entries, bibtex).encode()


def citation(entries: Sequence[Entry]) -> str:
    """Return a BibTeX entry whose digest identifies exactly these records."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(f"{entry.file}\0{entry.record.model_dump_json()}\0".encode())
    newest = max((entry.record.created[:10] for entry in entries), default="")
    # Records are untrusted: only a real date may enter the entry.
    date = re.fullmatch(r"(\d{4})-\d{2}-\d{2}", newest)
    lines = [
        "@misc{attnbench-leaderboard,",
        "  title = {attnbench leaderboard},",
        "  author = {{The attnbench team and the authors of the submissions}},",
        *([f"  year = {{{date[1]}}},"] if date else []),
        f"  note = {{attnbench {__version__}, {len(entries):,} records"
        + (f", the newest of {newest}" if date else "")
        + f", SHA-256 {digest.hexdigest()[:16]}}},",
        "}",
    ]
    return "\n".join(lines) + "\n"


def write_files(folder: Path, contents: Iterator[tuple[str, bytes]]) -> int:
    """Write files into a folder, which is created if needed, and return their number.

    Args:
        folder: where to write.
        contents: names relative to the folder, and contents.

    Raises:
        AttnbenchError: if a file cannot be written.
    """
    number = 0
    for name, content in contents:
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, content)
        except OSError as error:
            raise AttnbenchError(f"{path} cannot be written: {error.strerror}") from None
        number += 1
    return number


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


def _readme(entries: Sequence[Entry], bibtex: str) -> str:
    template = files("attnbench.leaderboard").joinpath("export_readme.md").read_text("utf-8")
    tracks = sorted({entry.record.identity.track for entry in entries})
    submissions = {entry.record.identity.submission for entry in entries}
    return (
        template.replace("@RECORDS@", f"{len(entries):,}")
        .replace("@SUBMISSIONS@", f"{len(submissions):,}")
        .replace("@TRACKS@", ", ".join(tracks) or "none")
        .replace("@VERSION@", __version__)
        .replace("@CITATION@", bibtex.strip())
    )
