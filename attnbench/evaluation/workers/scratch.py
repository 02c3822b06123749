"""The folder that workers' folders are made in: gone with its process, or with the next one's start."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_PREFIX = "attnbench-"
# One without its name yet is just being made, unless it is as old as this.
_YOUNG_SECONDS = 60.0


class Scratch:
    """A private folder in the system's place for temporary files; a context manager.

    It is locked as long as its process lives. Where one was killed before it could clean up, the
    next one sees that from the lock and does it.
    """

    def __init__(self) -> None:
        remove_left_behind()
        # It has its name only when it is locked: until then others might take it for left behind.
        nameless = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
        self._lock = os.open(nameless, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.folder = nameless.rename(nameless.with_name(nameless.name[1:]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        remove(self.folder)
        os.close(self._lock)

    def new_folder(self) -> Path:
        """A new, empty folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def remove_left_behind() -> None:
    """Remove the folders of processes that were killed before they could."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        _remove_if_left(left)
    for left in Path(tempfile.gettempdir()).glob(f".{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _YOUNG_SECONDS:
                remove(left)


def remove(path: Path) -> None:
    """Remove a file or folder whatever is in it; links are not followed."""
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if path.is_symlink() or path.exists():
        # Forbidden folders, or ones nested deeper than Python recurses.
        subprocess.run(["chmod", "-R", "u+rwx", "--", path], stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", "--", path], stderr=subprocess.DEVNULL)


def _remove_if_left(folder: Path) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return  # another user's, or something else of that name
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(folder)
    except OSError:
        return  # in use
    finally:
        os.close(lock)
