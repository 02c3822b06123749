"""A data folder on its way to machines that do not have it."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Parcel:
    """The files of a folder, in pieces that some store holds.

    Attributes:
        name: the same for the same files: their paths, sizes and dates.
        files: the path in the folder of each, and what stands for its pieces.
    """

    name: str
    files: tuple[tuple[str, tuple[Any, ...]], ...]


def pack(folder: Path, *, put: Callable[[bytes], Any], size: int) -> Parcel:
    """Hand the files of a folder to a store, in pieces of at most `size` bytes.

    Args:
        folder: with all below it.
        put: takes bytes, gives what stands for them.
        size: of a piece, which has to fit into memory.
    """
    digest = hashlib.sha256()
    files = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        name, about = path.relative_to(folder).as_posix(), path.stat()
        digest.update(f"{name}\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
        with path.open("rb") as file:
            pieces = tuple(put(piece) for piece in iter(lambda: file.read(size), b""))
        files.append((name, pieces))
    return Parcel(digest.hexdigest(), tuple(files))


def unpack(parcel: Parcel, shelf: Path, *, get: Callable[[Any], bytes]) -> Path:
    """The parcel's folder in `shelf`, written there unless it is there already.

    Several processes of a machine may ask at once: one of them writes, the others wait.
    """
    shelf.mkdir(parents=True, exist_ok=True)
    folder = shelf / parcel.name
    with (shelf / f"{parcel.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            unfinished = Path(tempfile.mkdtemp(dir=shelf))
            try:
                for name, pieces in parcel.files:
                    path = unfinished / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("wb") as file:
                        for piece in pieces:
                            file.write(get(piece))
                unfinished.replace(folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return folder
