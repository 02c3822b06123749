"""Picture sources that need no data: procedural figures, and scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnbench.stimuli.preprocessing import Picture

# The number of pictures of each class in the procedural set, by split. Only those that an episode uses
# are drawn. Hyperparameters are tuned on pictures of "adapt" with larger numbers
# (benchmarks/studies/learning_rates.py), and the predictions of `shipped_predictions` cover "filter".
FIGURES_PER_CLASS = {"adapt": 1000, "test": 600, "filter": 1000}
# The share of each digit's pictures that a split takes, in this order. "test" takes the remainder.
_DIGITS_SHARES = {"pretrain": 0.45, "adapt": 0.20}
# scikit-learn's digits, whose import takes a second: `pixels` uint8 `[1797, 8, 8]` and `labels` uint8
# `[1797]` (Alpaydin & Kaynak 1998, UCI Machine Learning Repository, CC BY 4.0).
_DIGITS = Path(__file__).with_name("digits.npz")


class Figures:
    """The procedural picture set. Each picture is drawn when first requested, then kept in memory.

    Args:
        split: `adapt`, `test` or `filter`.

    Attributes:
        name, classes, labels: as in `attnbench.stimuli.sources.Source`.
    """

    def __init__(self, split: str) -> None:
        from attnbench.stimuli import figures

        self._draw, self._masks = figures.draw, figures.masks
        self._split = split
        self._drawn: dict[int, Picture] = {}
        self.name = f"figures-{split}"
        self.classes = tuple(figures.CLASSES)
        self._per_class = FIGURES_PER_CLASS[split]
        self.labels = np.repeat(np.arange(len(self.classes)), self._per_class)

    def load(self, rows: Sequence[int]) -> list[Picture]:
        """Return the pictures in these rows, uint8 `[3, 48, 48]` each."""
        missing = np.array(sorted(set(rows) - self._drawn.keys()), dtype=np.int64)
        for label in np.unique(self.labels[missing]) if len(missing) else ():
            rows_of_class = missing[self.labels[missing] == label]
            pictures = self._draw(self._split, int(label), rows_of_class % self._per_class)
            self._drawn.update(zip(rows_of_class.tolist(), pictures, strict=True))
        return [self._drawn[row] for row in rows]

    def masks(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """Return where the main figures of these pictures are, float32 `[n, 48, 48]` from 0 to 1."""
        labels, indices = self.labels[list(rows)], np.array(rows) % self._per_class
        return np.concatenate(
            [
                self._masks(self._split, int(label), indices[[number]])
                for number, label in enumerate(labels)
            ]
        )


class Digits:
    """scikit-learn's handwritten digits, divided into disjoint splits class by class.

    Args:
        split: `pretrain`, `adapt` or `test`.

    Attributes:
        name, classes, labels: as in `attnbench.stimuli.sources.Source`.
    """

    def __init__(self, split: str) -> None:
        with np.load(_DIGITS) as arrays:
            pixels, labels = arrays["pixels"], arrays["labels"]
        rows = np.concatenate([_rows_of_digit(labels, digit, split) for digit in range(10)])
        # scikit-learn's pixels have 17 grey levels, 0 to 16.
        grey = np.rint(pixels[rows, None] * (255 / 16)).astype(np.uint8)
        self.name = f"digits-{split}"
        self.classes = tuple(str(digit) for digit in range(10))
        self.labels = labels[rows].astype(np.int64)
        self._pictures = np.repeat(grey, 3, axis=1)

    def load(self, rows: Sequence[int]) -> list[Picture]:
        """Return the pictures in these rows, uint8 `[3, 8, 8]` each."""
        return list(self._pictures[list(rows)])


def _rows_of_digit(labels: NDArray[np.int64], digit: int, split: str) -> NDArray[np.int64]:
    rows = np.flatnonzero(labels == digit)
    # Shuffled with a fixed seed per digit, so that the splits never change and stay disjoint.
    rows = np.random.default_rng([0, digit]).permutation(rows)
    ends = np.cumsum([round(share * len(rows)) for share in _DIGITS_SHARES.values()])
    splits = dict(zip((*_DIGITS_SHARES, "test"), np.split(rows, ends), strict=True))
    return np.asarray(splits[split], dtype=np.int64)
