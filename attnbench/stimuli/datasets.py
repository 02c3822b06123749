"""A data set of picture files, however these are stored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnbench.errors import AttnbenchError
from attnbench.stimuli import decoding
from attnbench.stimuli.preprocessing import Picture
from attnbench.stimuli.stores import PictureStore


@dataclass(frozen=True)
class Dataset:
    """Encoded pictures with labels, sorted by class and, within a class, in the data's own order.

    Attributes:
        name: the data set's name. It is the prefix of its pictures' names in records if these are
            numbered.
        classes: the names of the classes.
        labels: the class index of every picture, int64 `[N]`, ascending.
        store: the bytes of the picture files.
        numbers: the number in `store` of every picture, int64 `[N]`.
        cache_name: the name of its files in the cache.
        named_by_file: whether pictures are named by the paths of their files in records.
        file_names: whether the name of a picture's file takes the place of its number in records.
        notes: what was left out, as sentences for people.
    """

    name: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    store: PictureStore
    numbers: NDArray[np.int64]
    cache_name: str
    named_by_file: bool = False
    file_names: bool = False
    notes: tuple[str, ...] = ()

    def image_name(self, row: int) -> str:
        """Return a picture's name in records: its file, or data set, class, and file or number.

        A number does not depend on how the data is stored.
        """
        if self.named_by_file:
            return self.store.name(int(self.numbers[row]))
        if self.file_names:
            file = self.store.file_name(int(self.numbers[row]))
            return f"{self.name}/{self.classes[int(self.labels[row])]}/{file}"
        return numbered_name(self.name, self.classes, self.labels, row)

    def location(self, row: int) -> str:
        """Return where a picture is, as messages name it."""
        return self.store.location(int(self.numbers[row]))

    def file_size(self, row: int) -> int:
        """Return the size of a picture's file in bytes. Raises AttnbenchError if it is not there."""
        with self._explaining(row):
            return self.store.size(int(self.numbers[row]))

    def encoded(self, row: int) -> bytes:
        """Return the bytes of a picture's file. Raises AttnbenchError if they cannot be read."""
        with self._explaining(row):
            return self.store.read(int(self.numbers[row]))

    def decode(self, row: int, encoded: bytes) -> Picture:
        """Decode a picture to uint8 RGB `[3, h, w]`, see `attnbench.stimuli.decoding`.

        Args:
            row: the picture's row, for the error message.
            encoded: its bytes.

        Raises:
            AttnbenchError: if the picture is damaged, or cannot be used. The message names its file.
        """
        with self._explaining(row):
            return decoding.decode(encoded)

    def load(self, rows: Sequence[int]) -> list[Picture]:
        """Return the pictures in these rows, uint8 RGB `[3, h, w]`, each of its own size.

        Raises:
            AttnbenchError: if a picture cannot be read. The message names its file.
        """
        return [self.decode(row, self.encoded(row)) for row in rows]

    @contextlib.contextmanager
    def _explaining(self, row: int) -> Iterator[None]:
        """Turn whatever prevents reading a picture into an AttnbenchError that names its file."""
        try:
            yield
        except (OSError, ValueError, decoding.UnreadablePicture) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            remedy = "fetch the data set again"
            if self.named_by_file:
                remedy = (
                    "replace or remove it, or leave it out: skip_damaged = true in the source of the "
                    "task, or --skip-damaged of new-task"
                )
            raise AttnbenchError(
                f"cannot read the picture {self.location(row)}: {reason}; {remedy}"
            ) from None


def numbered_name(name: str, classes: Sequence[str], labels: NDArray[np.int64], row: int) -> str:
    """Return a picture's name: data set, class, and number within the class."""
    label = int(labels[row])
    return f"{name}/{classes[label]}/{row - int(np.searchsorted(labels, label))}"
