"""Where pictures come from: drawn, embedded, or a dataset of the hub or of a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attnbench.errors import AttnbenchError
from attnbench.tasks import DigitsSource, FiguresSource, HubSource

Picture = NDArray[np.uint8]

# How many pictures of each class the drawn set has; "test" has the more for its positives.
_FIGURES_PER_CLASS = {"adapt": 32, "test": 40}
# Shares of each digit's images, in this order; what remains is "test".
_DIGITS_SHARES = {"pretrain": 0.45, "adapt": 0.20}


class Source(Protocol):
    """A labelled set of pictures, decoded only as far as they are asked for."""

    @property
    def name(self) -> str:
        """What an image of it is called in a record, without its row."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class index of every picture, `[N]`."""

    def load(self, rows: Sequence[int]) -> list[Picture]:
        """The pictures in these rows, uint8 `[3, h, w]` each."""


def open_source(definition: FiguresSource | DigitsSource | HubSource, data: Path | None) -> Source:
    """The source a task definition names. Raises AttnbenchError where its data is not there."""
    if isinstance(definition, FiguresSource):
        return Figures(definition.split)
    if isinstance(definition, DigitsSource):
        return Digits(definition.split)
    return HubDataset(definition, data)


class Figures:
    """The procedural picture set; each picture is drawn when first asked for, and kept."""

    def __init__(self, split: str) -> None:
        from attnbench.stimuli import figures

        self._draw = figures.draw
        self._split = split
        self._drawn: dict[int, Picture] = {}
        self.name = f"figures-{split}"
        self.classes = tuple(figures.CLASSES)
        self._per_class = _FIGURES_PER_CLASS[split]
        self.labels = np.repeat(np.arange(len(self.classes)), self._per_class)

    def load(self, rows: Sequence[int]) -> list[Picture]:
        """Pictures `[3, 48, 48]`."""
        wanted = np.array(sorted(set(rows) - self._drawn.keys()), dtype=np.int64)
        for label in np.unique(self.labels[wanted]) if len(wanted) else ():
            of_label = wanted[self.labels[wanted] == label]
            pictures = self._draw(self._split, int(label), of_label % self._per_class)
            self._drawn.update(zip(of_label.tolist(), pictures, strict=True))
        return [self._drawn[row] for row in rows]


class Digits:
    """scikit-learn's handwritten digits, split by class into disjoint parts."""

    def __init__(self, split: str) -> None:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        rows = np.concatenate([_digit_rows(labels, digit, split) for digit in range(10)])
        # 17 grey levels, 0 to 16
        grey = np.rint(pixels[rows].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
        self.name = f"digits-{split}"
        self.classes = tuple(str(digit) for digit in range(10))
        self.labels = labels[rows].astype(np.int64)
        self._pictures = np.repeat(grey, 3, axis=1)

    def load(self, rows: Sequence[int]) -> list[Picture]:
        """Pictures `[3, 8, 8]`."""
        return list(self._pictures[list(rows)])


class HubDataset:
    """A dataset through `datasets`: by hub id, or from the data folder's copy of it."""

    def __init__(self, definition: HubSource, data: Path | None) -> None:
        self._rows, self.classes, self.labels = _open_dataset(definition, data)
        self._image = definition.image
        self.name = f"{definition.folder}-{definition.split}"

    def load(self, rows: Sequence[int]) -> list[Picture]:
        """Pictures as RGB, each of its own size. Raises AttnbenchError for a damaged one."""
        return [self._picture(row) for row in rows]

    def _picture(self, row: int) -> Picture:
        try:
            picture = self._rows[int(row)][self._image]
            return np.asarray(picture.convert("RGB"), dtype=np.uint8).transpose(2, 0, 1)
        except (OSError, ValueError, SyntaxError) as error:
            raise AttnbenchError(
                f"{self.name}, row {row}: the image cannot be decoded ({error}); "
                "fetch the dataset again"
            ) from None


def _digit_rows(labels: NDArray[Any], digit: int, split: str) -> NDArray[np.int64]:
    rows = np.flatnonzero(labels == digit)
    rows = np.random.default_rng([0, digit]).permutation(rows)
    ends = np.cumsum([round(share * len(rows)) for share in _DIGITS_SHARES.values()])
    parts = dict(zip((*_DIGITS_SHARES, "test"), np.split(rows, ends), strict=True))
    return np.asarray(parts[split], dtype=np.int64)


@lru_cache(maxsize=8)
def _open_dataset(
    definition: HubSource, data: Path | None
) -> tuple[Any, tuple[str, ...], NDArray[np.int64]]:
    import datasets

    folder = None if data is None else data / definition.folder
    if folder is not None and not folder.is_dir():
        raise AttnbenchError(
            f"no data for {definition.hub}: {folder} is not a folder; "
            f"put the dataset's Parquet files there, or leave --data out to load it from the hub"
        )
    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(
            definition.hub if folder is None else str(folder),
            split=definition.split,
            revision=definition.revision if folder is None else None,
        )
        labels = np.asarray(rows.with_format("numpy", columns=[definition.label])[definition.label])
        feature = rows.features[definition.label]
    except Exception as error:  # the library raises dozens of kinds, for all of which the user
        where = definition.hub if folder is None else folder  # needs to know just this much
        raise AttnbenchError(
            f"cannot load {where}, split {definition.split}: {type(error).__name__}: "
            f"{str(error)[:300]}; give a folder that holds `{definition.folder}` with --data DIR"
        ) from None
    names = getattr(feature, "names", None) or [str(i) for i in range(int(labels.max()) + 1)]
    return rows, tuple(str(name) for name in names), labels.astype(np.int64)
