"""Pictures that need no data: drawn ones, and scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attnbench.stimuli.preparing import Picture

# How many pictures of each class the drawn set has, by split.
_FIGURES_PER_CLASS = {"adapt": 32, "test": 40, "filter": 26}
# Shares of each digit's images, in this order; what remains is "test".
_DIGITS_SHARES = {"pretrain": 0.45, "adapt": 0.20}


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
        rows = np.concatenate([_rows_of_digit(labels, digit, split) for digit in range(10)])
        # 17 grey levels, 0 to 16
        grey = np.rint(pixels[rows].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
        self.name = f"digits-{split}"
        self.classes = tuple(str(digit) for digit in range(10))
        self.labels = labels[rows].astype(np.int64)
        self._pictures = np.repeat(grey, 3, axis=1)

    def load(self, rows: Sequence[int]) -> list[Picture]:
        """Pictures `[3, 8, 8]`."""
        return list(self._pictures[list(rows)])


def _rows_of_digit(labels: NDArray[np.int64], digit: int, split: str) -> NDArray[np.int64]:
    rows = np.flatnonzero(labels == digit)
    rows = np.random.default_rng([0, digit]).permutation(rows)
    ends = np.cumsum([round(share * len(rows)) for share in _DIGITS_SHARES.values()])
    parts = dict(zip((*_DIGITS_SHARES, "test"), np.split(rows, ends), strict=True))
    return np.asarray(parts[split], dtype=np.int64)
