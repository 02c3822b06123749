"""Pictures listed by a CSV with a column of files and one of classes."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from attnbench.errors import AttnbenchError
from attnbench.stimuli.layouts import Contents, Layout
from attnbench.stimuli.listing import list_folder
from attnbench.stimuli.stores import FileStore, writable
from attnbench.stimuli.tables import Columns, codes_of_names, consecutive


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
                "Write file,label in its first line, separated by a comma, or name the columns in the "
                "source of a task (file, label)"
            )
    files = [row[columns.file] for row in rows]
    _check_files(files, path)
    labels, classes = codes_of_names([row[columns.label] for row in rows])
    split_of_row = [row.get("split", "train") for row in rows]
    names = list(dict.fromkeys(split_of_row))
    # Rows of a split together, in the order of the CSV.
    order = sorted(range(len(rows)), key=lambda row: names.index(split_of_row[row]))
    splits = consecutive(names, [split_of_row.count(name) for name in names])
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
