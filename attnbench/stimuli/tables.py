"""Pictures listed by a table: a CSV of files, Parquet files, or a dataset of the hub."""

from __future__ import annotations

import contextlib
import csv
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from attnbench.errors import AttnbenchError
from attnbench.stimuli.layouts import Contents, Layout
from attnbench.stimuli.listing import list_folder
from attnbench.stimuli.stores import ArrowStore, FileStore, writable
from attnbench.text import printable

# The label of a picture whose class is not known, as in the test splits of many datasets.
UNLABELLED = -1


@dataclass(frozen=True)
class Columns:
    """The names of the columns: of pictures and of file names, and of classes."""

    image: str
    label: str
    file: str = "file"


def find_csv(folder: Path, columns: Columns) -> Path | None:
    """Return the CSV in a folder that has a column of files and one of classes, or None.

    Raises:
        AttnbenchError: if there are several.
    """
    files = []
    for path in list_folder(folder, folder).with_suffix(".csv"):
        header: list[str] = []
        # Any other CSV may lie there, in any encoding.
        with (
            contextlib.suppress(OSError, csv.Error),
            path.open(encoding="utf-8-sig", errors="replace", newline="") as file,
        ):
            header = next(csv.reader(file), [])
        if columns.file in header and columns.label in header:
            files.append(path)
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise AttnbenchError(
            f"{folder} has several CSV files ({names}); name one of them as `path`"
        )
    return files[0] if files else None


def csv_layout(path: Path, columns: Columns) -> Layout:
    """Return the layout of a CSV with columns of files and classes, and perhaps one called `split`.

    Args:
        path: the CSV. Its files are relative to its folder.
        columns: the names of the columns.

    Raises:
        AttnbenchError: if the CSV cannot be read, lacks a column, or names a file that is not there.
    """
    root = path.parent
    rows = list(_rows(path))
    present = list(rows[0]) if rows else []
    for column in (columns.file, columns.label):
        if column not in present:
            raise AttnbenchError(
                f"{path} has no column {column!r}; its columns are {', '.join(present) or 'none'}. "
                "Write file,label in its first line, or name its columns in the task (file, label)"
            )
    files = [row[columns.file] for row in rows]
    _check_files(files, path)
    labels, classes = _codes_of_names([row[columns.label] for row in rows])
    split_of_row = [row.get("split", "train") for row in rows]
    names = list(dict.fromkeys(split_of_row))
    # Rows of a split together, in the order of the CSV.
    order = sorted(range(len(rows)), key=lambda row: names.index(split_of_row[row]))
    splits = _consecutive(names, [split_of_row.count(name) for name in names])
    store = FileStore(root, [""] * len(rows), [files[row] for row in order])
    contents = Contents(store, classes, labels[order], splits)
    hint = (
        "" if "split" in present else ": it has no column `split`, so all pictures count as train"
    )
    return Layout(tuple(names), lambda _: contents, hint)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        # Excel begins its CSV files with a byte order mark.
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file, restval=""):
                yield {str(key): str(value) for key, value in row.items()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AttnbenchError(f"cannot read {path} as a CSV in UTF-8: {error}") from None


def _check_files(files: Sequence[str], csv_file: Path) -> None:
    """Refuse a CSV that lists a file which is missing, outside the CSV's folder, or listed before."""
    root = csv_file.parent.resolve()
    seen: set[Path] = set()
    for number, name in enumerate(files, start=1):
        try:
            target = (root / name).resolve()
            problem = "" if target.is_file() else "is not a file; files are relative to the CSV"
        except (OSError, RuntimeError, ValueError):  # too long, a loop of symlinks, or a null byte
            target, problem = root, "is not the name of a file"
        if not target.is_relative_to(root):
            problem = "is outside the folder of the CSV; copy the file there"
        elif target in seen:
            problem = "is listed twice"
        if problem:
            raise AttnbenchError(f"entry {number} of {csv_file}, {writable(name)}, {problem}")
        seen.add(target)


@contextlib.contextmanager
def explained(location: str, remedy: str) -> Iterator[None]:
    """Turn every error of `datasets` into an AttnbenchError.

    Args:
        location: what is being loaded.
        remedy: what the user can do.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        yield
    except AttnbenchError:
        raise
    except Exception as error:  # `datasets` raises dozens of types; the user's remedy is the same
        raise AttnbenchError(
            f"cannot load {location}: {type(error).__name__}: {printable(error, 300)}; {remedy}"
        ) from None


def read_parquet(files: Mapping[str, Sequence[Path]], root: Path, columns: Columns) -> Contents:
    """Read some splits of a data set of Parquet files.

    Args:
        files: the files of each split.
        root: the folder that names in records are relative to.
        columns: the names of the columns. Classes are indices or names.

    Raises:
        AttnbenchError: if a file cannot be read, or has no such columns.
    """
    import datasets

    tables = [
        datasets.load_dataset(
            "parquet",
            # The name of the split here does not matter, but must be a word.
            data_files={"train": [str(path) for path in paths]},
            split="train",
        )
        for paths in files.values()
    ]
    sources = [
        (
            writable(str(path.relative_to(root))),
            writable(str(path)),
            pq.read_metadata(path).num_rows,
        )
        for paths in files.values()
        for path in paths
    ]
    return read_tables(tables, list(files), sources, columns)


def read_tables(
    tables: Sequence[Any],
    splits: Sequence[str],
    sources: Sequence[tuple[str, str, int]],
    columns: Columns,
    *,
    may_read_paths: bool = False,
) -> Contents:
    """Read splits that `datasets` has loaded.

    Args:
        tables: a `datasets.Dataset` per split.
        splits: the names of the splits.
        sources, may_read_paths: see `ArrowStore`.
        columns: the names of the columns.

    Raises:
        AttnbenchError: if a column is missing or of another type.
    """
    import datasets

    for column in (columns.image, columns.label):
        if column not in tables[0].column_names:
            raise AttnbenchError(
                f"{sources[0][1]} has no column {column!r}; its columns are "
                f"{', '.join(tables[0].column_names)}. Name its columns in the task (image, label)"
            )
    # Rows are read from the Arrow columns: indexing a dataset takes longer than normalising a picture.
    encoded = [
        table.cast_column(columns.image, datasets.Image(decode=False)).data.column(columns.image)
        for table in tables
    ]
    pictures = pa.chunked_array(
        [chunk for column in encoded for chunk in column.chunks], encoded[0].type
    )
    label_columns = [table.data.column(columns.label) for table in tables]
    names = getattr(tables[0].features[columns.label], "names", None)
    labels, classes = _codes(label_columns, names, sources[0][1])
    return Contents(
        ArrowStore(pictures, sources, may_read_paths),
        classes,
        labels,
        _consecutive(splits, [len(table) for table in tables]),
    )


def _consecutive(splits: Sequence[str], sizes: Sequence[int]) -> dict[str, range]:
    """Return the numbers of the pictures of splits that follow one another."""
    ends = list(accumulate(sizes))
    return {
        split: range(end - size, end) for split, size, end in zip(splits, sizes, ends, strict=True)
    }


def _codes(
    columns: Sequence[pa.ChunkedArray], names: Sequence[str] | None, location: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the class index of every row, and the names of the classes.

    Args:
        columns: the column of labels in each table.
        names: the names of the classes, if the column has class indices and says what they mean.
        location: the first table, for error messages.
    """
    kind = columns[0].type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _codes_of_names([name for column in columns for name in column.to_pylist()])
    try:
        whole = [pc.fill_null(column.cast(pa.int64()), UNLABELLED) for column in columns]
    except pa.ArrowException as error:
        raise AttnbenchError(
            f"the labels of {location} are neither whole numbers nor names: {printable(error, 200)}"
        ) from None
    labels = np.concatenate([column.to_numpy() for column in whole]).astype(np.int64)
    highest = int(labels.max(initial=UNLABELLED))
    classes = tuple(names) if names else tuple(map(str, range(highest + 1)))
    if highest >= len(classes):
        raise AttnbenchError(
            f"{location} has a label {highest}, but only {len(classes)} class names"
        )
    return np.maximum(labels, UNLABELLED), classes


def _codes_of_names(
    names: Sequence[str | None],
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the class index of every name, and the sorted names.

    A missing name and `-1` stand for a picture without a label.
    """
    cleaned = [unicodedata.normalize("NFC", name or "").strip() for name in names]
    classes = tuple(sorted({name for name in cleaned if name not in ("", "-1")}))
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index.get(name, UNLABELLED) for name in cleaned], np.int64), classes
