"""Writing files so that a crash never leaves half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from attnbench.errors import AttnbenchError


def write_atomically(path: Path, content: bytes, scratch: Path) -> None:
    """Write a file that is, at every moment, either the old one or the complete new one.

    Args:
        path: the file; its folder is created if needed.
        content: all of its bytes.
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
    """The error to raise when a record or a part of one cannot be written."""
    return AttnbenchError(
        f"cannot write {path} ({error.strerror}). Earlier results are intact. "
        "Free some space or choose another folder with --records, then run the same command again."
    )
