"""Where pictures come from: one interface for drawn, embedded and stored ones."""

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
from attnbench.stimuli.preparing import Picture, resize_and_crop
from attnbench.tasks import DigitsSource, FiguresSource, HubSource


class Source(Protocol):
    """A labelled set of pictures in a fixed order, decoded only as far as they are asked for."""

    @property
    def name(self) -> str:
        """What an image of it is called in a record, before class and number."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class index of every picture, `[N]`, ascending."""

    def load(self, rows: Sequence[int]) -> list[Picture]:
        """The pictures in these rows, uint8 `[3, h, w]` each."""


@lru_cache(maxsize=16)  # tasks that share a source share what of it is drawn or opened
def open_source(definition: FiguresSource | DigitsSource | HubSource, data: Path | None) -> Source:
    """The source a task definition names. Raises AttnbenchError where its data is not there."""
    if isinstance(definition, FiguresSource):
        return Figures(definition.split)
    if isinstance(definition, DigitsSource):
        return Digits(definition.split)
    return open_dataset(definition, data)


@dataclass(frozen=True)
class Prepared:
    """A source's pictures as a backbone's preprocessing leaves them; `rows`: those that count."""

    source: Source
    preprocessing: Preprocessing
    rows: NDArray[np.int64]
    cache: PictureCache | None

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class index of every picture that counts, `[N]`, ascending."""
        return self.source.labels[self.rows]

    def image_name(self, number: int) -> str:
        """Source, class and number within the class: the same in whatever files the data lies."""
        row = int(self.rows[number])
        label = int(self.source.labels[row])
        first = int(np.searchsorted(self.source.labels, label))
        return f"{self.source.name}/{self.source.classes[label]}/{row - first}"

    def load(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pictures, uint8 `[n, 3, s, s]`."""
        rows = self.rows[numbers].tolist()
        if self.cache is None or not isinstance(self.source, Dataset):
            return np.stack(
                [resize_and_crop(each, self.preprocessing) for each in self.source.load(rows)]
            )
        return np.stack([self._through_cache(self.source, self.cache, row) for row in rows])

    def _through_cache(self, source: Dataset, cache: PictureCache, row: int) -> Picture:
        encoded = source.encoded(row)
        kept = cache.get(row, encoded)
        if kept is None:
            kept = resize_and_crop(source.decode(row, encoded), self.preprocessing)
            cache.put(row, encoded, kept)
        return kept


def prepare(source: Source, preprocessing: Preprocessing) -> Prepared:
    """All pictures of a source; those in files are decoded and resized once, and kept on disk."""
    cache = None
    if isinstance(source, Dataset):
        cache = PictureCache(cache_folder(), source.name, preprocessing)
    return Prepared(source, preprocessing, np.arange(len(source.labels)), cache)
