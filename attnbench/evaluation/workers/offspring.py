"""The template's workers as processes: one at work, one to spare, and those that are dying.

This process is their subreaper: what a worker leaves behind becomes its child.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attnbench.evaluation.workers.scratch import remove


@dataclass(frozen=True)
class Forked:
    """A worker: its process, its folder, and the evaluator's end of its channel."""

    pid: int
    folder: Path
    channel: socket.socket


class Workers:
    """One worker is at work at a time; everything it started dies with it.

    A fork takes as long as a small network takes to look at a hundred images, so the next worker is
    forked while the one before begins. It waits for its job; no submission has run in it.
    """

    def __init__(self) -> None:
        self._running: Forked | None = None
        self._spare: Forked | None = None
        self._dying: list[Forked] = []

    def begin(self, fork: Callable[[], Forked]) -> Forked:
        """The spare worker, or where there is none that is alive a new one, is at work now."""
        spare, self._spare = self._spare, None
        if spare is not None and _exit_code_within(spare.pid, 0.0) is not None:
            remove(spare.folder)
            spare = None
        self._running = spare or fork()
        return self._running

    def keep_spare(self, fork: Callable[[], Forked]) -> None:
        """Have a worker ready for the next job."""
        self._spare = fork()

    def end(self) -> None:
        """Kill the worker and all it started; none of them does anything once this has returned.

        A process with a network in it takes a while to go. Where it has started none, that is not
        waited for here but in `reap`: a killed process can start no other.
        """
        running, self._running = self._running, None
        if running is None:
            return
        self._dying.append(running)
        os.kill(running.pid, signal.SIGKILL)
        remove(running.folder)  # before the next worker begins: it is not to find anything
        # In this order: what a dying process has started passes from there to here.
        known = {each.pid for each in self._dying}
        if _children_of(running.pid) or set(self._others()) - known:
            self.reap()

    def reap(self) -> None:
        """Wait until all but the spare worker have gone, their folders too; none may be at work."""
        while others := self._others():
            for pid in others:
                os.kill(pid, signal.SIGKILL)
            for pid in others:
                os.waitpid(pid, 0)
        for each in self._dying:
            remove(each.folder)
        self._dying.clear()

    def exit_code(self, grace: float) -> int | None:
        """End the worker, after `grace` seconds in which it may end by itself.

        Returns its exit code (negative: a signal), None if it was alive.
        """
        running, self._running = self._running, None
        if running is None:
            return None
        status = _exit_code_within(running.pid, grace)
        self._dying.append(running)
        self.reap()
        return status

    def end_all(self) -> None:
        """End the worker and the spare one, with all they started."""
        for each in (self._running, self._spare):
            if each is not None:
                each.channel.close()
                self._dying.append(each)
        self._running = self._spare = None
        self.reap()

    def _others(self) -> list[int]:
        """This process's children without the spare worker."""
        spare = None if self._spare is None else self._spare.pid
        return [pid for pid in _children_of(os.getpid()) if pid != spare]


def _children_of(pid: int) -> list[int]:
    """The children of all threads of a process; none of one that has gone."""
    found = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in listing.read_text().split()]
        except OSError:  # the thread has ended in the meantime
            continue
    return found


def _exit_code_within(pid: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.005)
