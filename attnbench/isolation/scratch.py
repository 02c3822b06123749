"""The scratch folder of a fork server, which survives neither its process nor a crash of it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

_PREFIX = "attnbench-"
_LOCK = "lock"
# A folder without its final name is still being created, unless it is older than this.
_CREATION_SECONDS = 60.0


class Scratch:
    """A private folder in the system's temporary folder; a context manager.

    It stays locked as long as its process lives. If that process was killed before it could clean
    up, the lock is free, and the next `Scratch` removes the folder.

    Attributes:
        folder: the folder.
    """

    def __init__(self) -> None:
        remove_abandoned()
        # The folder gets its final name only after it is locked. Before that, another process could
        # mistake it for an abandoned one.
        unnamed = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
        self._lock = FileLock(unnamed / _LOCK)
        self._lock.acquire()
        self.folder = unnamed.rename(unnamed.with_name(unnamed.name[1:]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        remove(self.folder)
        self._lock.release()

    def new_folder(self) -> Path:
        """Create an empty folder in it."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def remove_abandoned() -> None:
    """Remove the scratch folders of processes that were killed before they could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        _remove_if_unlocked(folder)
    for folder in Path(tempfile.gettempdir()).glob(f".{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _CREATION_SECONDS:
                remove(folder)


def remove(path: Path) -> None:
    """Remove a file or a folder with all its contents. Symbolic links are not followed."""
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if path.is_symlink() or path.exists():
        # It has folders without permissions, or ones nested deeper than Python can recurse.
        subprocess.run(["chmod", "-R", "u+rwx", "--", path], stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", "--", path], stderr=subprocess.DEVNULL)


def _remove_if_unlocked(folder: Path) -> None:
    if folder.is_symlink() or not (folder / _LOCK).is_file():
        return  # not a scratch folder of ours
    try:
        with FileLock(folder / _LOCK, timeout=0):
            remove(folder)
    except (Timeout, OSError):
        return  # in use, or another user's
