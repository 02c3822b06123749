"""Images on their way to a worker, in files without a name whose descriptors it is sent.

Those to adapt on it cannot see before the clock runs, and has at once when it does. Test images come
in places that are filled over and over, so that none is copied and no new memory is asked for.
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
def shared(sides: Sequence[Images]) -> Iterator[int]:
    """A descriptor of the images, float32, each side from a page's beginning on."""
    with _nameless([side.shape for side in sides]) as descriptor:
        *starts, _ = _starts([side.shape for side in sides])
        for side, start in zip(sides, starts, strict=True):
            view = np.ascontiguousarray(side).reshape(-1).view(np.uint8).data
            while view:
                written = os.pwrite(descriptor, view, start)
                view, start = view[written:], start + written
        yield descriptor


@contextlib.contextmanager
def places(shapes: Sequence[Shape]) -> Iterator[tuple[int, list[Images]]]:
    """A descriptor of empty places for images, float32, and the places to fill.

    Who has the descriptor sees what lies in them at any time and may write there, so nothing is to be
    read back and nothing written that is not meant to be seen. Its size is fixed: to write to a file
    cut short behind its map would end this process.
    """
    with _nameless(shapes) as descriptor:
        fcntl.fcntl(
            descriptor,
            fcntl.F_ADD_SEALS,
            fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL,
        )
        yield descriptor, _views(mmap.mmap(descriptor, _starts(shapes)[-1]), shapes)


def mapped(descriptor: int, shapes: Sequence[Shape]) -> list[Images]:
    """The images behind a descriptor, which is closed; what is written to them stays here."""
    try:
        memory = mmap.mmap(descriptor, _starts(shapes)[-1], flags=mmap.MAP_PRIVATE)
    finally:
        os.close(descriptor)
    return _views(memory, shapes)


def watched(descriptor: int, shapes: Sequence[Shape]) -> list[Images]:
    """The places behind a descriptor, which is closed: what is written on either side is on both."""
    count = _starts(shapes)[-1] // 4
    try:  # `mmap` would keep a descriptor of its own open
        memory = torch.from_file(f"/proc/self/fd/{descriptor}", shared=True, size=count).numpy()
    finally:
        os.close(descriptor)
    return _views(memory, shapes)


@contextlib.contextmanager
def _nameless(shapes: Sequence[Shape]) -> Iterator[int]:
    """A descriptor of a file that has room for arrays of these shapes."""
    descriptor = os.memfd_create("images", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, _starts(shapes)[-1])
        yield descriptor
    finally:
        os.close(descriptor)


def _views(memory: mmap.mmap | Images, shapes: Sequence[Shape]) -> list[Images]:
    *starts, _ = _starts(shapes)
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
