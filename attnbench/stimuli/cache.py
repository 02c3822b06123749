"""Prepared pictures on disk: decoded and resized once, for all targets, submissions and runs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

import numpy as np
import xxhash

from attnbench.backbones.backbone import Preprocessing
from attnbench.stimuli.preparing import Picture

_DIGEST = 16


class PictureCache:
    """One sparse file for a source and a preprocessing; a row of it is

        digest of the encoded picture | digest of the pixels | pixels

    A row counts only if both digests agree. So a row of other data, a half-written or a damaged one
    is as if it were not there, and two runs may write at once: they write the same bytes. Read with
    `pread` and not through a memory map, where a truncated file or a full disk would end the
    process; the page cache serves both alike. Where nothing can be written, nothing is kept.

    Args:
        folder: where caches lie.
        name: of the source.
        preprocessing: what was done to the pictures.
    """

    def __init__(self, folder: Path, name: str, preprocessing: Preprocessing) -> None:
        self._shape = (3, preprocessing.size, preprocessing.size)
        self._stride = 2 * _DIGEST + int(np.prod(self._shape))
        plain = re.sub(r"[^A-Za-z0-9-]+", "-", name)
        sizes = f"{preprocessing.resize}-{preprocessing.size}"
        self.path = folder / f"{plain}-{sizes}.pictures"

    def get(self, row: int, encoded: bytes) -> Picture | None:
        """The pixels of a row, uint8 `[3, s, s]`, if they were made from these bytes."""
        try:
            with self.path.open("rb", buffering=0) as file:
                stored = os.pread(file.fileno(), self._stride, row * self._stride)
        except OSError:
            return None
        pixels = memoryview(stored)[2 * _DIGEST :]
        if len(stored) < self._stride or stored[: 2 * _DIGEST] != _digests(encoded, pixels):
            return None
        return np.frombuffer(pixels, np.uint8).reshape(self._shape)

    def put(self, row: int, encoded: bytes, picture: Picture) -> None:
        """Keep the pixels of a row."""
        pixels = np.ascontiguousarray(picture).tobytes()
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.pwrite(descriptor, _digests(encoded, pixels) + pixels, row * self._stride)
            finally:
                os.close(descriptor)


def _digests(encoded: bytes, pixels: bytes | memoryview) -> bytes:
    """What tells other pictures apart; and what tells damage, which is quick to compute."""
    return hashlib.blake2b(encoded, digest_size=_DIGEST).digest() + xxhash.xxh3_128_digest(pixels)
