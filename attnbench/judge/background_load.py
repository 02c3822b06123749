"""How much of the machine's CPU time goes to other work, which makes measured times longer."""

from __future__ import annotations

import contextlib
import os
import time

import psutil


class BackgroundLoad:
    """Measures, from its creation on, the CPU time of all processes but this one and its children."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._at_start = _other_cpu_seconds()

    def share(self) -> float:
        """The share (0 to 1) of the usable cores that other work has taken since the start.

        Other work may have run on cores that this process cannot use. It is assumed to have run
        there as far as those cores had room. After one second, the result is accurate to a few
        hundredths.
        """
        usable = len(os.sched_getaffinity(0))
        unusable = (psutil.cpu_count() or usable) - usable
        others = (_other_cpu_seconds() - self._at_start) / (time.monotonic() - self._started)
        return min(1.0, max(0.0, others - unusable) / usable)


def _other_cpu_seconds() -> float:
    """CPU seconds of this machine, stolen time included, spent outside this process tree."""
    times = psutil.cpu_times()._asdict()
    # Linux counts guests in `user` and `nice` already.
    idle = ("idle", "iowait", "guest", "guest_nice")
    busy = sum(seconds for name, seconds in times.items() if name not in idle)
    return float(busy) - _tree_cpu_seconds(psutil.Process())


def _tree_cpu_seconds(root: psutil.Process) -> float:
    """CPU seconds of a process and its descendants, including descendants that have ended."""
    spent = 0.0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            spent += sum(process.cpu_times()[:4])
    return spent
