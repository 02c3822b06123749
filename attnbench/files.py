"""Reading files that others may have prepared, and writing files whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

from attnbench.errors import AttnbenchError


def read_file(path: Path, limit: int, *, follow_link: bool = True) -> bytes:
    """Read a file that may be from somebody else.

    A checkout can contain links, to a device without an end or to a private file. Reading a named pipe
    would wait forever.

    Args:
        path: the file.
        limit: the most bytes that it may have.
        follow_link: whether it may be a link to a file.

    Raises:
        OSError: if it cannot be read, is larger, is not a regular file, or is a link where none may be.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow_link else os.O_NOFOLLOW)
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit >> 20} MiB", str(path))
    return content


def write_file(path: Path, content: bytes) -> None:
    """Write a file, but never through a link, which may lead to a file of the user's.

    Raises:
        OSError: if it cannot be written, or is a link.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link; remove it, or name the file itself", str(path))
    path.write_bytes(content)


def write_atomically(path: Path, content: bytes, scratch: Path) -> None:
    """Write a file so that a reader sees, at every moment, the old contents or all of the new.

    Args:
        path: the file; its folder is created if needed.
        content: the new contents.
        scratch: a folder on the same file system for the unfinished file; created if needed.

    Raises:
        AttnbenchError: if the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=scratch, prefix=".", delete=False) as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o644)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> AttnbenchError:
    """Return the error to raise when a record or a part of one cannot be written.

    Args:
        path: the file.
        error: why writing failed.
    """
    return AttnbenchError(
        f"cannot write {path} ({error.strerror}). Earlier results are intact. "
        "Free some space or choose another folder with --records, then run the same command again."
    )
