"""A data folder sent to machines that do not have it."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock


@dataclass(frozen=True)
class DataBundle:
    """The files of a folder, in chunks that some object store holds.

    Attributes:
        name: identifies the files by their paths, sizes and modification times.
        files: the path of each file in the folder, and the store's references to its chunks.
    """

    name: str
    files: tuple[tuple[str, tuple[Any, ...]], ...]


def pack(folder: Path, *, put: Callable[[bytes], Any], chunk_bytes: int) -> DataBundle:
    """Put the files of a folder into an object store.

    Args:
        folder: packed with everything below it.
        put: stores bytes and returns a reference to them.
        chunk_bytes: the largest chunk. A chunk has to fit into memory.
    """
    digest = hashlib.sha256()
    files = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, status = path.relative_to(folder).as_posix(), path.stat()
        # Hashing contents would read everything twice. Times tell changed files apart well enough.
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        with path.open("rb") as file:
            chunks = tuple(put(chunk) for chunk in iter(lambda: file.read(chunk_bytes), b""))
        files.append((name, chunks))
    return DataBundle(digest.hexdigest(), tuple(files))


def unpack(bundle: DataBundle, parent: Path, *, get: Callable[[Any], bytes]) -> Path:
    """Return the bundle's folder in `parent`, and write it if it is not there yet.

    If several processes of a machine ask at once, one of them writes and the others wait.

    Args:
        bundle: what to unpack.
        parent: a folder of unpacked bundles; created if needed.
        get: returns the bytes of a reference.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / bundle.name
    # The folder appears under its name only once it is complete, so its existence is enough.
    with FileLock(parent / f"{bundle.name}.lock"):
        if not folder.is_dir():
            unfinished = Path(tempfile.mkdtemp(dir=parent))
            try:
                for name, chunks in bundle.files:
                    path = unfinished / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("wb") as file:
                        for chunk in chunks:
                            file.write(get(chunk))
                unfinished.replace(folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return folder
