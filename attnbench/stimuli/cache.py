"""Disk caches: of pictures, decoded and resized once for all targets and runs, and of arrays."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from attnbench.backbones.backbone import Preprocessing
from attnbench.stimuli import decoding
from attnbench.stimuli.preprocessing import Picture

_DIGEST_BYTES = 16


class PictureCache:
    """One sparse file for a source and a preprocessing. Each of its rows is

        digest of the encoded picture | digest of the pixels | pixels

    A row counts only if both digests match. A row made from other data, half written or damaged is
    treated as missing. Two runs may write at once, as they write the same bytes. If the cache cannot
    be written, pictures are simply prepared again.

    Args:
        folder: the folder of all caches; created when the first picture is stored.
        name: the source's name.
        preprocessing: how the pictures were prepared.

    Attributes:
        path: the file.
    """

    def __init__(self, folder: Path, name: str, preprocessing: Preprocessing) -> None:
        self._shape = (3, preprocessing.size, preprocessing.size)
        self._row_bytes = 2 * _DIGEST_BYTES + int(np.prod(self._shape))
        safe_name = re.sub(r"[^A-Za-z0-9-]+", "-", name)
        sizes = f"{preprocessing.resize}-{preprocessing.size}"
        if preprocessing.interpolation != "bilinear":
            sizes += f"-{preprocessing.interpolation}"
        self.path = folder / f"{safe_name}-{sizes}.pictures"

    def get(self, row: int, encoded: bytes) -> Picture | None:
        """Return the pixels stored in a row, uint8 `[3, size, size]`, or None.

        Args:
            row: the picture's row in its source.
            encoded: the picture's file; the stored pixels must have been made from these bytes.
        """
        # `pread` and not a memory map: a memory map of a file that is truncated meanwhile, or on a
        # full disk, kills the process with SIGBUS. The page cache makes both equally fast.
        try:
            with self.path.open("rb", buffering=0) as file:
                stored = os.pread(file.fileno(), self._row_bytes, row * self._row_bytes)
        except OSError:
            return None
        pixels = memoryview(stored)[2 * _DIGEST_BYTES :]
        if len(stored) < self._row_bytes or stored[: 2 * _DIGEST_BYTES] != _digests(
            encoded, pixels
        ):
            return None
        return np.frombuffer(pixels, np.uint8).reshape(self._shape)

    def put(self, row: int, encoded: bytes, picture: Picture) -> None:
        """Store the pixels of a row. Errors are ignored: the cache only saves time.

        Args:
            row: the picture's row in its source.
            encoded: the picture's file.
            picture: the prepared picture, uint8 `[3, size, size]`.
        """
        pixels = np.ascontiguousarray(picture).tobytes()
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                # One write for digests and pixels. If it is cut short, the digests do not match.
                os.pwrite(descriptor, _digests(encoded, pixels) + pixels, row * self._row_bytes)
            finally:
                os.close(descriptor)


def _digests(encoded: bytes, pixels: bytes | memoryview) -> bytes:
    """Return both digests of a row.

    The first tells different pictures apart and is cryptographic. Another version of the decoder gives
    another digest. The second only detects damage, so a fast non-cryptographic hash will do.
    """
    picture_digest = hashlib.blake2b(
        encoded, digest_size=_DIGEST_BYTES, person=b"decoder %d" % decoding.VERSION
    ).digest()
    return picture_digest + xxhash.xxh3_128_digest(pixels)


def cached_array(path: Path, shape: tuple[int, ...], compute: Callable[[], NDArray[Any]]) -> Any:
    """Return the array stored in a file, or compute and store it.

    Args:
        path: the file. Its name must contain a hash of everything that the array depends on.
        shape: the array's shape. A file with another shape is replaced.
        compute: computes the array.
    """
    try:
        stored = np.load(path)
        if stored.shape == shape:
            return stored
    except (OSError, ValueError, EOFError):  # missing or damaged
        pass
    array = compute()
    # Another run may read or write the same file: each writes its own and renames it when complete.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{np.random.default_rng().integers(1 << 60):x}.npy")
        np.save(unfinished, array)
        unfinished.replace(path)
    return array
