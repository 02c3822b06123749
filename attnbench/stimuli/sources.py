"""Picture sources: one interface for procedural, embedded and stored pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attnbench.backbones.backbone import Preprocessing
from attnbench.resources import cache_folder
from attnbench.stimuli.cache import PictureCache
from attnbench.stimuli.datasets import Dataset, numbered_name
from attnbench.stimuli.embedded import Digits, Figures
from attnbench.stimuli.opening import open_dataset, open_folder
from attnbench.stimuli.preprocessing import Picture, resize_and_crop
from attnbench.tasks import DigitsSource, FiguresSource, FolderSource, HubSource


class Source(Protocol):
    """A labelled set of pictures in a fixed order, which decodes only the pictures requested."""

    @property
    def name(self) -> str:
        """The prefix of its pictures' names in records, before class and number."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class index of every picture, int64 `[N]`, ascending."""

    def load(self, rows: Sequence[int]) -> list[Picture]:
        """Return the pictures in these rows, uint8 `[3, h, w]` each."""


def open_source(
    definition: FiguresSource | DigitsSource | HubSource | FolderSource,
    data: Path | None,
    part: str = "adapt",
) -> Source:
    """Open the source that a task names.

    Args:
        definition: the source in the task.
        data: the data folder, or None to load from the hub.
        part: `adapt` or `test`, which matters if the task divides a folder of one's own.

    Raises:
        AttnbenchError: if its data is missing or damaged.
    """
    if isinstance(definition, FolderSource):
        # Not cached: people change their folders while Python runs.
        return open_folder(definition, part)
    return _open_cached(definition, data)


# Cached so that tasks with a common source share its open files and the figures already drawn.
@lru_cache(maxsize=16)
def _open_cached(definition: FiguresSource | DigitsSource | HubSource, data: Path | None) -> Source:
    if isinstance(definition, FiguresSource):
        return Figures(definition.split)
    if isinstance(definition, DigitsSource):
        return Digits(definition.split)
    return open_dataset(definition, data)


@dataclass(frozen=True)
class PreparedPictures:
    """Pictures of a source, resized and cropped for a backbone, and addressed by index.

    Attributes:
        source: the source.
        preprocessing: the backbone's.
        rows: the rows of the source that are used, int64 `[N]`, ascending. A picture's index is its
            position in this array.
        cache: the disk cache, or None if preparing a picture is fast.
    """

    source: Source
    preprocessing: Preprocessing
    rows: NDArray[np.int64]
    cache: PictureCache | None

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class index of every picture used, int64 `[N]`, ascending."""
        return self.source.labels[self.rows]

    def image_name(self, index: int) -> str:
        """Return a picture's name in records: its file, or source, class and number in the class.

        The name does not depend on which rows are used.
        """
        row = int(self.rows[index])
        if isinstance(self.source, Dataset):
            return self.source.image_name(row)
        return numbered_name(self.source.name, self.source.classes, self.source.labels, row)

    @cached_property
    def index_by_name(self) -> dict[str, int]:
        """The index of each picture by its name in records."""
        return {self.image_name(index): index for index in range(len(self.rows))}

    def location(self, index: int) -> str:
        """Return where a picture is, as messages name it: its file, or its name in records."""
        if isinstance(self.source, Dataset):
            return self.source.location(int(self.rows[index]))
        return self.image_name(index)

    def load(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the prepared pictures with these indices, uint8 `[n, 3, size, size]`.

        Raises:
            AttnbenchError: if a picture is damaged.
        """
        rows = self.rows[indices].tolist()
        if self.cache is None or not isinstance(self.source, Dataset):
            pictures = self.source.load(rows)
            return np.stack([resize_and_crop(picture, self.preprocessing) for picture in pictures])
        return np.stack([self._load_cached(self.source, self.cache, row) for row in rows])

    def _load_cached(self, source: Dataset, cache: PictureCache, row: int) -> Picture:
        encoded = source.encoded(row)
        # The picture's number in the whole data, which all splits and slices of the data share.
        number = int(source.numbers[row])
        picture = cache.get(number, encoded)
        if picture is None:
            picture = resize_and_crop(source.decode(row, encoded), self.preprocessing)
            cache.put(number, encoded, picture)
        return picture


def prepare(source: Source, preprocessing: Preprocessing) -> PreparedPictures:
    """Return all pictures of a source, prepared for a backbone.

    Picture files are decoded and resized once, then kept in the disk cache.
    """
    cache = None
    if isinstance(source, Dataset):
        cache = PictureCache(cache_folder(), source.cache_name, preprocessing)
    return PreparedPictures(source, preprocessing, np.arange(len(source.labels)), cache)
