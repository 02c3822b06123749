"""Writing files so that a crash never leaves half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from attnbench.errors import AttnbenchError


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
