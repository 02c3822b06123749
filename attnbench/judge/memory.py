"""How much memory a worker uses, as the kernel counts it. The worker has no part in this."""

from __future__ import annotations

import re
from pathlib import Path


class PeakMemory:
    """The growth of a process's resident memory from now on.

    Args:
        process: a descriptor of the process (see pidfd_open(2)).
    """

    def __init__(self, process: int) -> None:
        number = _field(Path(f"/proc/self/fdinfo/{process}"), "Pid")
        self._status = None if number is None else Path(f"/proc/{number}/status")
        self._at_start = self._kibibytes("VmRSS")

    def growth(self) -> int | None:
        """Return by how many bytes the peak exceeds the resident memory at the start.

        Returns:
            None if the process has ended.
        """
        peak = self._kibibytes("VmHWM")
        if peak is None or self._at_start is None:
            return None
        return 1024 * max(0, peak - self._at_start)

    def _kibibytes(self, name: str) -> int | None:
        return None if self._status is None else _field(self._status, name)


def _field(path: Path, name: str) -> int | None:
    """Return a number that a file of /proc gives, or None if it does not."""
    try:
        text = path.read_text("ascii", "replace")
    except OSError:
        return None
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else None
