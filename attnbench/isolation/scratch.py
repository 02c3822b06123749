"""The scratch folder of a fork server. If a crash leaves it behind, a later process removes it."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

_PREFIX = "attnbench-"
_LOCK_SUFFIX = ".lock"


class Scratch:
    """A private folder in the system's temporary folder; a context manager.

    A lock file beside it stays locked as long as its process lives. If that process was killed
    before it could clean up, the lock is free, and the next `Scratch` removes both.

    Attributes:
        folder: the folder.
    """

    def __init__(self) -> None:
        remove_abandoned()
        self.folder = Path(tempfile.gettempdir(), _PREFIX + secrets.token_hex(8))
        # The lock comes first and goes last: a folder without one would never be removed. It lies
        # beside the folder, so that an interrupted removal of the folder leaves it where it is.
        self._lock = FileLock(_lock_of(self.folder))
        self._lock.acquire()
        self.folder.mkdir(mode=0o700)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _remove_locked(self.folder)
        self._lock.release()

    def new_folder(self) -> Path:
        """Create an empty folder in the scratch folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def remove_abandoned() -> None:
    """Remove the scratch folders of processes that were killed before they could."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*{_LOCK_SUFFIX}"):
        # The lock of a live process is held. That of another user cannot be opened.
        with contextlib.suppress(Timeout, OSError), FileLock(path, timeout=0):
            _remove_locked(path.with_name(path.name.removesuffix(_LOCK_SUFFIX)))


def remove(path: Path) -> None:
    """Remove a file or a folder with all its contents. Symbolic links are not followed."""
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if path.is_symlink() or path.exists():
        # It has folders without permissions, or ones nested deeper than Python can recurse.
        subprocess.run(["chmod", "-R", "u+rwx", "--", path], stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", "--", path], stderr=subprocess.DEVNULL)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK_SUFFIX)


def _remove_locked(folder: Path) -> None:
    """Remove a scratch folder and its lock file, which this process holds.

    If the folder cannot be removed, the lock file stays, so that a later process tries again.
    """
    remove(folder)
    if folder.exists():
        return
    # Removed while it is held: a process that waits for it sees that, and creates a new one.
    _lock_of(folder).unlink(missing_ok=True)
