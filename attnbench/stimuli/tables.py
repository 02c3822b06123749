"""Pictures in a table: Parquet files, or a dataset of the hub."""

from __future__ import annotations

import contextlib
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
from attnbench.stimuli.layouts import Contents
from attnbench.stimuli.stores import ArrowStore, writable
from attnbench.text import printable

# The label of a picture whose class is not known, as in the test splits of many datasets.
UNLABELLED = -1


@dataclass(frozen=True)
class Columns:
    """The names of the columns: of pictures and of file names, and of classes."""

    image: str
    label: str
    file: str = "file"


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
        consecutive(splits, [len(table) for table in tables]),
    )


def consecutive(splits: Sequence[str], sizes: Sequence[int]) -> dict[str, range]:
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
        return codes_of_names([name for column in columns for name in column.to_pylist()])
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


def codes_of_names(
    names: Sequence[str | None],
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the class index of every name, and the sorted names.

    A missing name and `-1` stand for a picture without a label.
    """
    cleaned = [unicodedata.normalize("NFC", name or "").strip() for name in names]
    classes = tuple(sorted({name for name in cleaned if name not in ("", "-1")}))
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index.get(name, UNLABELLED) for name in cleaned], np.int64), classes
