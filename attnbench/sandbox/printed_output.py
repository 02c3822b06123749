"""What a submission prints: it goes line by line into a file in memory, which the judge reads.

Each worker has a file of its own, so no worker can read what another has printed.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys

from attnbench.isolation.linux import buffer_c_output_by_line


def buffer_output_by_line() -> None:
    """Write each line that Python or C code prints as soon as it ends, as on a terminal.

    A worker may crash or be killed at any time. What is left in a buffer then would be lost.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    buffer_c_output_by_line()


def flush_output() -> None:
    """Write what Python code has printed since its last line break."""
    # The submission may have closed or replaced its streams.
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()


def forget_output() -> None:
    """Remove what this process has printed so far, such as the output of a rehearsal."""
    flush_output()
    with contextlib.suppress(OSError):
        os.ftruncate(1, 0)
        os.lseek(1, 0, os.SEEK_SET)
