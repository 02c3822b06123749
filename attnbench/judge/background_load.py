"""How much of the machine's CPU time goes to other work, which makes measured times longer."""

from __future__ import annotations

import contextlib
import os
import time

import psutil

# Measured times are contended if other work took more than this share of the cores, and more than this
# many CPU seconds. The system counts CPU time in steps of 10 ms, for each process apart.
_MAX_SHARE, _MAX_SECONDS = 0.1, 0.05


class BackgroundLoad:
    """Measures the CPU time that other processes have used since the object was created.

    This process and its descendants do not count as others. Nor does work on cores that this process
    has no use for: other work is assumed to run on those first.

    Args:
        threads: how many cores this process uses at a time; by default all that it may use.
    """

    def __init__(self, threads: int | None = None) -> None:
        usable = len(os.sched_getaffinity(0))
        self._needed = min(threads or usable, usable)
        self._unneeded = max(0, (psutil.cpu_count() or usable) - self._needed)
        self._started = time.monotonic()
        self._at_start = _other_cpu_seconds()

    def share(self) -> float:
        """Return the share (0 to 1) of the needed cores that other work has taken since the start.

        After one second, the result is accurate to a few hundredths.
        """
        taken, available = self._seconds()
        return min(1.0, taken / available)

    def is_contended(self) -> bool:
        """Return whether other work has taken so much that times measured meanwhile are too long."""
        taken, available = self._seconds()
        return taken > max(_MAX_SHARE * available, _MAX_SECONDS)

    def _seconds(self) -> tuple[float, float]:
        """Return the CPU seconds of the needed cores: what other work took, and what there was."""
        elapsed = time.monotonic() - self._started
        others = _other_cpu_seconds() - self._at_start
        return max(0.0, others - self._unneeded * elapsed), self._needed * elapsed


def is_quiet(seconds: float = 0.5) -> bool:
    """Wait, and return whether other work has left the cores alone meanwhile.

    Args:
        seconds: how long to wait.
    """
    load = BackgroundLoad()
    time.sleep(seconds)
    return not load.is_contended()


def _other_cpu_seconds() -> float:
    """Return the machine's CPU seconds outside this process tree, including stolen time."""
    times = psutil.cpu_times()._asdict()
    # Linux already includes the time of guests in `user` and `nice`.
    idle = ("idle", "iowait", "guest", "guest_nice")
    busy = sum(seconds for name, seconds in times.items() if name not in idle)
    return float(busy) - _tree_cpu_seconds(psutil.Process())


def _tree_cpu_seconds(root: psutil.Process) -> float:
    """Return the CPU seconds of a process and its descendants, including ended descendants."""
    spent = 0.0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            # User and system time, of the process itself and of its children that have ended.
            spent += sum(process.cpu_times()[:4])
    return spent
