"""The same picture twice: within a source, and on both sides of an episode."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np
import xxhash
from numpy.typing import NDArray

from attnbench.stimuli.datasets import Dataset

_Place = tuple[Dataset, int]

# Comparing more pictures could mean reading more than a disk gives in a minute.
_MAX_COMPARED = 100_000
_EXAMPLES = 3


def content_of(picture: NDArray[np.uint8]) -> bytes:
    """Return a digest of a prepared picture's pixels: equal pictures have equal digests."""
    return xxhash.xxh3_128_digest(np.ascontiguousarray(picture).data)


def contents_of(pictures: NDArray[np.uint8], indices: NDArray[np.int64]) -> dict[bytes, int]:
    """Return the digest of each of some prepared pictures `[n, 3, h, w]`, with its index."""
    return dict(zip(map(content_of, pictures), indices.tolist(), strict=True))


def describe_duplicates(sources: Iterable[Dataset]) -> str:
    """Return a sentence that counts the files that are copies of others, or an empty text.

    Only files of equal size are read, so this takes little time.

    Args:
        sources: the data sets among whose pictures copies are searched. They may share pictures.
    """
    sources = list(sources)
    if sum(len(source.labels) for source in sources) > _MAX_COMPARED:
        return ""
    places = {
        source.location(row): (source, row)
        for source in sources
        for row in range(len(source.labels))
    }
    copies = [
        group
        for of_size in _groups(places.values(), lambda source, row: source.file_size(row))
        for group in _groups(
            of_size, lambda source, row: xxhash.xxh3_128_digest(source.encoded(row))
        )
    ]
    if not copies:
        return ""
    surplus = sum(len(group) - 1 for group in copies)
    examples = "; ".join(
        " = ".join(source.location(row) for source, row in group[:_EXAMPLES])
        for group in copies[:_EXAMPLES]
    )
    names = " and ".join(dict.fromkeys(source.name for source in sources))
    conflicts = sum(
        len({source.classes[source.labels[row]] for source, row in group}) > 1 for group in copies
    )
    conflict = f"; {conflicts} of them in several classes at once" if conflicts else ""
    return (
        f"{surplus} of {len(places)} pictures of {names} are copies of others ({examples}"
        f"{'; …' * (len(copies) > _EXAMPLES)}){conflict}; an episode that would adapt on a picture "
        "and test on its copy is refused"
    )


def _groups(places: Iterable[_Place], key: Callable[[Dataset, int], object]) -> list[list[_Place]]:
    """Return the pictures that share a key with another picture, grouped by key."""
    by_key: dict[object, list[_Place]] = defaultdict(list)
    for source, row in places:
        by_key[key(source, row)].append((source, row))
    return [group for group in by_key.values() if len(group) > 1]
