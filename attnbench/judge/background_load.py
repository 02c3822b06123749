"""How much of the machine's CPU time goes to other work, which makes measured times longer."""

from __future__ import annotations

import contextlib
import os
import time

import psutil


class BackgroundLoad:
    """Measures the CPU time that other processes have used since the object was created.

    This process and its descendants do not count as others.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._at_start = _other_cpu_seconds()

    def share(self) -> float:
        """Return the share (0 to 1) of the usable cores that other work has taken since the start.

        Other work is assumed to run first on the cores that this process cannot use. After one
        second, the result is accurate to a few hundredths.
        """
        usable = len(os.sched_getaffinity(0))
        unusable = (psutil.cpu_count() or usable) - usable
        others = (_other_cpu_seconds() - self._at_start) / (time.monotonic() - self._started)
        return min(1.0, max(0.0, others - unusable) / usable)


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
