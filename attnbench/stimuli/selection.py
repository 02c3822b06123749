"""Which pictures an episode uses, by their index in an image set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from attnbench.errors import AttnbenchError

Indices = NDArray[np.int64]
# The number of pictures that are loaded at once. It must stay: the fingerprint of an episode of blends
# covers the pictures and then the partners of each chunk.
CHUNK = 64


class Role(IntEnum):
    """What an image set is for. The value seeds its random draws, so that the two sets differ."""

    ADAPT = 0
    TEST = 1


@dataclass(frozen=True)
class Selection:
    """Pictures selected for an episode, by their index in an image set.

    Attributes:
        positive_count: the number of positives in the complete selection.
        pictures: positives, then negatives, int64 `[n]`. A picture that is blended with several
            partners is repeated.
        partners: the picture that each one is blended with, int64 `[n]`, or None without a blend.
    """

    positive_count: int
    pictures: Indices
    partners: Indices | None

    @property
    def all_pictures(self) -> Indices:
        """The pictures and their partners, in the order of `ImageSet.load_pictures`."""
        return np.concatenate([self.pictures, *([] if self.partners is None else [self.partners])])

    def chunks(self) -> Iterator[slice]:
        """Yield slices of the selection that are small enough to be loaded at once."""
        for start in range(0, len(self.pictures), CHUNK):
            yield slice(start, start + CHUNK)

    def subset(self, positions: Indices | slice) -> Selection:
        """Return the pictures at some positions. `positive_count` keeps its value."""
        partners = None if self.partners is None else self.partners[positions]
        return Selection(self.positive_count, self.pictures[positions], partners)


def draw(candidates: Indices, count: int, key: Sequence[int], seed: int) -> Indices:
    """Draw pictures without replacement, so that seeds share none as long as there are enough.

    The candidates are put into a random order, the same for all seeds, and seed s takes the s-th slice
    of it. Where the candidates end, a new order begins: a secret seed, which is large, has images of
    its own however few there are.

    Args:
        candidates: the pictures to draw from, int64 `[N]`.
        count: how many to draw, at most N.
        key: seeds the random orders.
        seed: the number of the slice.

    Returns:
        int64 `[count]`.
    """
    order_number, slice_number = divmod(seed, len(candidates) // count)
    full_key = [*key, order_number] if order_number else [*key]
    order = np.random.default_rng(full_key).permutation(candidates)
    return order[slice_number * count : (slice_number + 1) * count]


def choose_partners(
    rng: np.random.Generator, labels: NDArray[np.int64], pictures: Indices, candidates: Indices
) -> Indices:
    """Choose a blending partner of another class for each picture.

    A picture that is selected several times gets a different partner each time.

    Args:
        rng: the generator to draw from.
        labels: the class index of every picture of the set, int64 `[N]`.
        pictures: the selected pictures, int64 `[n]`.
        candidates: the pictures without the target, from which partners are drawn with replacement.

    Returns:
        int64 `[n]`.

    Raises:
        AttnbenchError: if the candidates have fewer than two classes, or too few pictures for each
            picture to have different partners.
    """
    # With a single class of candidates, the loop below would never end for a negative.
    if len(np.unique(labels[candidates])) < 2:
        raise AttnbenchError(
            "cannot blend: a negative is a blend of two classes without the target, "
            "so the source needs at least three classes"
        )
    repeats = int(np.unique(pictures, return_counts=True)[1].max())
    available = len(candidates) - int(np.bincount(labels[candidates]).max())
    if available < repeats:
        raise AttnbenchError(
            f"cannot blend each picture with {repeats} partners: there are only {available} pictures "
            "of other classes"
        )
    partners = rng.choice(candidates, len(pictures))
    while (unsuitable := _same_class_or_repeated(labels, pictures, partners)).any():
        partners[unsuitable] = rng.choice(candidates, int(unsuitable.sum()))
    return partners


def _same_class_or_repeated(
    labels: NDArray[np.int64], pictures: Indices, partners: Indices
) -> NDArray[np.bool_]:
    """Return which pairs are of one class, or equal to an earlier pair, bool `[n]`."""
    unsuitable: NDArray[np.bool_] = labels[partners] == labels[pictures]
    first = np.unique(pictures * len(labels) + partners, return_index=True)[1]
    is_repeated = np.ones(len(pictures), bool)
    is_repeated[first] = False
    return unsuitable | is_repeated
