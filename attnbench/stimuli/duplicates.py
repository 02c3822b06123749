"""The same picture twice: within a source, and on both sides of an episode."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import xxhash
from numpy.typing import NDArray

from attnbench.stimuli.datasets import Dataset

# Comparing more pictures could mean reading more than a disk gives in a minute.
_MAX_COMPARED = 100_000
_EXAMPLES = 3


def content_of(picture: NDArray[np.uint8]) -> bytes:
    """Return a digest of a prepared picture's pixels: equal pictures have equal digests."""
    return xxhash.xxh3_128_digest(np.ascontiguousarray(picture).data)


def contents_of(pictures: NDArray[np.uint8], indices: NDArray[np.int64]) -> dict[bytes, int]:
    """Return the digest of each of some prepared pictures `[n, 3, h, w]`, with its index."""
    return dict(zip(map(content_of, pictures), indices.tolist(), strict=True))


def describe_duplicates(source: Dataset) -> str:
    """Return a sentence that counts the files that a source has more than once, or an empty text.

    Only pictures of equal size in bytes are read, so this takes little time.
    """
    if len(source.labels) > _MAX_COMPARED:
        return ""
    rows = range(len(source.labels))
    copies = [
        group
        for of_size in _groups((source.file_size(row), row) for row in rows)
        for group in _groups((xxhash.xxh3_128_digest(source.encoded(row)), row) for row in of_size)
    ]
    if not copies:
        return ""
    surplus = sum(len(group) - 1 for group in copies)
    examples = "; ".join(
        " = ".join(source.location(row) for row in group[:_EXAMPLES])
        for group in copies[:_EXAMPLES]
    )
    return (
        f"{surplus} of {len(source.labels)} pictures of {source.name} are copies of others ({examples}"
        f"{'; …' * (len(copies) > _EXAMPLES)}); an episode that would adapt on a picture and test on "
        "its copy is refused"
    )


def _groups(items: Iterable[tuple[object, int]]) -> list[list[int]]:
    """Return the rows that share a key with another row, grouped by key."""
    rows_by_key: dict[object, list[int]] = defaultdict(list)
    for key, row in items:
        rows_by_key[key].append(row)
    return [rows for rows in rows_by_key.values() if len(rows) > 1]
