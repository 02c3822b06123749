"""Picture sources: one interface for procedural, embedded and stored pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attnbench.backbones.backbone import Preprocessing
from attnbench.resources import cache_folder
from attnbench.stimuli.cache import PictureCache
from attnbench.stimuli.datasets import Dataset, open_dataset
from attnbench.stimuli.embedded import Digits, Figures
from attnbench.stimuli.preprocessing import Picture, resize_and_crop
from attnbench.tasks import DigitsSource, FiguresSource, HubSource


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


# Cached so that tasks with a common source share its open files and the figures already drawn.
@lru_cache(maxsize=16)
def open_source(definition: FiguresSource | DigitsSource | HubSource, data: Path | None) -> Source:
    """Open the source that a task names.

    Args:
        definition: the source in the task.
        data: the data folder, or None to load from the hub.

    Raises:
        AttnbenchError: if its data is missing or damaged.
    """
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
        """Return a picture's name in records: source, class, and number within the class.

        The name does not depend on how the data is stored, nor on which rows are used.
        """
        row = int(self.rows[index])
        label = int(self.source.labels[row])
        first_row = int(np.searchsorted(self.source.labels, label))
        return f"{self.source.name}/{self.source.classes[label]}/{row - first_row}"

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
        picture = cache.get(row, encoded)
        if picture is None:
            picture = resize_and_crop(source.decode(row, encoded), self.preprocessing)
            cache.put(row, encoded, picture)
        return picture


def prepare(source: Source, preprocessing: Preprocessing) -> PreparedPictures:
    """Return all pictures of a source, prepared for a backbone.

    Picture files are decoded and resized once, then kept in the disk cache.
    """
    cache = None
    if isinstance(source, Dataset):
        cache = PictureCache(cache_folder(), source.name, preprocessing)
    return PreparedPictures(source, preprocessing, np.arange(len(source.labels)), cache)
