"""Images that a worker cannot see before the clock runs, and has at once when it does.

They lie in a file without a name whose descriptor is handed over with "go"; the worker maps it.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Shape = tuple[int, ...]


@contextlib.contextmanager
def shared(sides: Sequence[Images]) -> Iterator[int]:
    """A descriptor of the images, float32, each side from a page's beginning on."""
    descriptor = os.memfd_create("images")
    try:
        *starts, end = _starts([side.shape for side in sides])
        os.ftruncate(descriptor, end)
        for side, start in zip(sides, starts, strict=True):
            view = np.ascontiguousarray(side).reshape(-1).view(np.uint8).data
            while view:
                written = os.pwrite(descriptor, view, start)
                view, start = view[written:], start + written
        yield descriptor
    finally:
        os.close(descriptor)


def mapped(descriptor: int, shapes: Sequence[Shape]) -> list[Images]:
    """The images behind a descriptor, which is closed; what is written to them stays here."""
    *starts, end = _starts(shapes)
    try:
        memory = mmap.mmap(descriptor, end, flags=mmap.MAP_PRIVATE)
    finally:
        os.close(descriptor)
    return [
        np.frombuffer(memory, np.float32, math.prod(shape), start).reshape(shape)
        for shape, start in zip(shapes, starts, strict=True)
    ]


def _starts(shapes: Sequence[Shape]) -> list[int]:
    """Where each side begins, and where the last one ends."""
    starts = [0]
    for shape in shapes:
        size = 4 * math.prod(shape)
        starts.append(starts[-1] + math.ceil(size / mmap.PAGESIZE) * mmap.PAGESIZE)
    return starts
