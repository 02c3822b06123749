"""Leaving out the pictures of a data set that cannot be read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from attnbench.errors import AttnbenchError
from attnbench.resources import cache_folder
from attnbench.stimuli import decoding
from attnbench.stimuli.cache import cached_array
from attnbench.stimuli.datasets import Dataset

_MAX_NAMED = 5


def without_damaged(dataset: Dataset) -> Dataset:
    """Return a data set without the pictures that cannot be read, which its notes then count.

    All pictures have to be decoded for that, so the result is stored until one of the files changes.

    Raises:
        AttnbenchError: if no picture can be read.
    """
    count = len(dataset.labels)
    state = dataset.store.state(dataset.numbers.tolist())[:32]
    path = cache_folder() / f"{dataset.cache_name}-readable-{decoding.VERSION}-{state}.npy"

    def test_all() -> NDArray[np.bool_]:
        return np.array([_is_readable(dataset, row) for row in range(count)])

    is_readable: NDArray[np.bool_] = cached_array(path, (count,), test_all)
    if is_readable.all():
        return dataset
    damaged = np.flatnonzero(~is_readable).tolist()
    if len(damaged) == count:
        raise AttnbenchError(f"none of the {count} pictures of {dataset.name} can be read")
    named = ", ".join(dataset.image_name(row) for row in damaged[:_MAX_NAMED])
    note = (
        f"{len(damaged)} of {count} pictures of {dataset.name} cannot be read and are left out "
        f"({named}{', …' * (len(damaged) > _MAX_NAMED)})"
    )
    return replace(
        dataset,
        labels=dataset.labels[is_readable],
        numbers=dataset.numbers[is_readable],
        notes=(*dataset.notes, note),
    )


def _is_readable(dataset: Dataset, row: int) -> bool:
    try:
        dataset.load([row])
    except AttnbenchError:
        return False
    return True
