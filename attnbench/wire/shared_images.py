"""Images passed to a worker through anonymous files in memory, by file descriptor.

A worker cannot see its adaptation images before it gets their descriptor, which is when the clock
starts. After that, no copying delays it. Test images go through a few buffers that are reused, so no
image is copied twice and no batch needs new memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import mmap
import os
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Images = NDArray[np.float32]
Shape = tuple[int, ...]


@contextlib.contextmanager
def published(arrays: Sequence[Images]) -> Iterator[int]:
    """Write images to an anonymous file, and yield its descriptor.

    Args:
        arrays: float32, of any shape. Each starts on a page boundary of the file.
    """
    shapes = [array.shape for array in arrays]
    with _anonymous_file(shapes) as descriptor:
        *starts, _ = _offsets(shapes)
        for array, start in zip(arrays, starts, strict=True):
            view = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            while view:
                written = os.pwrite(descriptor, view, start)
                view, start = view[written:], start + written
        yield descriptor


@contextlib.contextmanager
def buffers(shapes: Sequence[Shape]) -> Iterator[tuple[int, list[Images]]]:
    """Create image buffers in an anonymous file. Yield its descriptor, and the buffers to fill.

    Every process that has the descriptor can read and write the buffers at any time. So write only
    images that a worker may see, and never read them back. The file is sealed at its size: if a worker
    could truncate it, writing past its end would kill this process.

    Args:
        shapes: the shape of each buffer, which is float32.
    """
    with _anonymous_file(shapes) as descriptor:
        fcntl.fcntl(
            descriptor,
            fcntl.F_ADD_SEALS,
            fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL,
        )
        yield descriptor, _views(mmap.mmap(descriptor, _offsets(shapes)[-1]), shapes)


def map_private(descriptor: int, shapes: Sequence[Shape]) -> list[Images]:
    """Map the images in a file and close its descriptor. Writes to them stay in this process.

    Args:
        descriptor: the descriptor that `published` yielded.
        shapes: the shape of each array.
    """
    try:
        memory = mmap.mmap(descriptor, _offsets(shapes)[-1], flags=mmap.MAP_PRIVATE)
    finally:
        os.close(descriptor)
    return _views(memory, shapes)


def map_shared(descriptor: int, shapes: Sequence[Shape]) -> list[Images]:
    """Map the buffers in a file and close its descriptor. Both sides see each other's writes.

    Args:
        descriptor: the descriptor that `buffers` yielded.
        shapes: the shape of each buffer.
    """
    count = _offsets(shapes)[-1] // 4
    try:  # `mmap` would keep a duplicate of the descriptor open in the worker
        memory = torch.from_file(f"/proc/self/fd/{descriptor}", shared=True, size=count).numpy()
    finally:
        os.close(descriptor)
    return _views(memory, shapes)


@contextlib.contextmanager
def _anonymous_file(shapes: Sequence[Shape]) -> Iterator[int]:
    """Yield the descriptor of a file in memory with room for float32 arrays of these shapes."""
    descriptor = os.memfd_create("images", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, _offsets(shapes)[-1])
        yield descriptor
    finally:
        os.close(descriptor)


def _views(memory: mmap.mmap | Images, shapes: Sequence[Shape]) -> list[Images]:
    *starts, _ = _offsets(shapes)
    return [
        np.frombuffer(memory, np.float32, math.prod(shape), start).reshape(shape)
        for shape, start in zip(shapes, starts, strict=True)
    ]


def _offsets(shapes: Sequence[Shape]) -> list[int]:
    """Return the byte at which each array starts, and that at which the last one ends."""
    offsets = [0]
    for shape in shapes:
        size = 4 * math.prod(shape)
        offsets.append(offsets[-1] + math.ceil(size / mmap.PAGESIZE) * mmap.PAGESIZE)
    return offsets
