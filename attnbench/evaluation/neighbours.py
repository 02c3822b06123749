"""How much of the processors goes to other work meanwhile, which makes times longer."""

from __future__ import annotations

import contextlib
import os
import time

import psutil


class Neighbours:
    """Watches other work from when it is made: that of no process below this one."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._at_first = _seconds_of_others()

    def share(self) -> float:
        """Of the processors that this process may use, what others took of them since (0 to 1).

        Others' work may all have been on processors that this process may not use, and is taken to
        have been there as far as there was room. Good to some hundredths in a second.
        """
        usable = len(os.sched_getaffinity(0))
        elsewhere = (psutil.cpu_count() or usable) - usable
        others = (_seconds_of_others() - self._at_first) / (time.monotonic() - self._began)
        return min(1.0, max(0.0, others - elsewhere) / usable)


def _seconds_of_others() -> float:
    """Processor seconds of this machine, stolen ones too, that were not spent below this process."""
    times = psutil.cpu_times()._asdict()
    # Linux counts guests among `user` and `nice` already.
    idle = ("idle", "iowait", "guest", "guest_nice")
    busy = sum(seconds for name, seconds in times.items() if name not in idle)
    return float(busy) - _seconds_below(psutil.Process())


def _seconds_below(process: psutil.Process) -> float:
    """Processor seconds of a process, its descendants, and those of them that have ended."""
    spent = 0.0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            spent += sum(each.cpu_times()[:4])
    return spent
