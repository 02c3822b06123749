"""Where the bytes of picture files are: in a folder, or in the rows of an Arrow table."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

# A larger file is no picture for a network, and would fill the memory.
_MAX_FILE_BYTES = 1 << 30


class PictureStore(Protocol):
    """Encoded pictures by number."""

    def name(self, number: int) -> str:
        """Return the picture's name: its file relative to the data, or its Parquet file and row."""

    def name_in_class(self, number: int) -> str:
        """Return the picture's name without the folder of its class."""

    def file_name(self, number: int) -> str:
        """Return the name of the picture's file without its folder; empty if it has none."""

    def location(self, number: int) -> str:
        """Return where the picture is, as a message names it: a path that can be opened."""

    def size(self, number: int) -> int:
        """Return the number of bytes of the encoded picture."""

    def read(self, number: int) -> bytes:
        """Return the encoded picture. Raises OSError or ValueError if it cannot be read."""

    def state(self, numbers: Sequence[int]) -> str:
        """Return a hash of what the pictures are read from, without reading it.

        It covers the names, sizes and modification times of files.
        """


@dataclass(frozen=True)
class FileStore:
    """Picture files below a folder.

    Attributes:
        root: the folder.
        folders: the folder of each picture's class, relative to `root`. Empty if classes have none.
        files: the path of each picture, relative to the folder of its class.
    """

    root: Path
    folders: Sequence[str]
    files: Sequence[str]

    def name(self, number: int) -> str:
        return writable(os.path.join(self.folders[number], self.files[number]))

    def name_in_class(self, number: int) -> str:
        return writable(self.files[number])

    def file_name(self, number: int) -> str:
        return writable(os.path.basename(self.files[number]))

    def location(self, number: int) -> str:
        return writable(self._path(number))

    def size(self, number: int) -> int:
        return os.stat(self._path(number)).st_size

    def read(self, number: int) -> bytes:
        with open(self._path(number), "rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise ValueError(f"it has more than {_MAX_FILE_BYTES >> 20} MiB")
        return content

    def state(self, numbers: Sequence[int]) -> str:
        return _state_of_files(self._path(number) for number in numbers)

    def _path(self, number: int) -> str:
        return os.path.join(self.root, self.folders[number], self.files[number])


@dataclass(frozen=True)
class ArrowStore:
    """Pictures in the rows of Arrow tables, which are files mapped into memory.

    Attributes:
        pictures: a column of structs with `bytes`, or with a `path` in the cache of `datasets`.
        tables: the Parquet files that the rows come from, or the dataset on the hub; each with its
            name in records, its location in messages, and its number of rows.
        may_read_paths: whether a row may hold a path in place of bytes. Only `datasets` writes such
            rows, for pictures that it downloaded itself.
    """

    pictures: pa.ChunkedArray
    tables: Sequence[tuple[str, str, int]]
    may_read_paths: bool = False

    def name(self, number: int) -> str:
        table, row = self._table_and_row(number)
        return f"{self.tables[table][0]}:{row}"

    def name_in_class(self, number: int) -> str:
        return self.name(number)

    def file_name(self, number: int) -> str:
        return writable(os.path.basename(self._path(number)))

    def location(self, number: int) -> str:
        table, row = self._table_and_row(number)
        file = self._path(number)
        return f"{self.tables[table][1]}, row {row}" + (f" ({file})" if file else "")

    def size(self, number: int) -> int:
        return len(self.read(number))

    def read(self, number: int) -> bytes:
        picture: dict[str, Any] = self.pictures[number].as_py() or {}
        if not (picture.get("bytes") or picture.get("path")):
            raise ValueError("the row has no picture")
        if picture["bytes"] is None:
            if not self.may_read_paths:
                raise ValueError(f"the row has only the path {picture['path']}, not the picture")
            return Path(picture["path"]).read_bytes()
        return bytes(picture["bytes"])

    def state(self, numbers: Sequence[int]) -> str:
        return _state_of_files(file for _, file, _ in self.tables)

    def _path(self, number: int) -> str:
        """Return the path that a row gives for its picture, which need not exist; empty without."""
        picture = self.pictures[number]
        return (picture["path"].as_py() or "") if picture.is_valid else ""

    def _table_and_row(self, number: int) -> tuple[int, int]:
        ends = list(accumulate(rows for _, _, rows in self.tables))
        table = bisect_right(ends, number)
        return table, number - ends[table] + self.tables[table][2]


def _state_of_files(paths: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        status = os.stat(path)
        digest.update(f"{writable(path)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def writable(path: str) -> str:
    """Return a path as text that can be written as UTF-8. A file name need not be valid UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
