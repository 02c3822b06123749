"""The fork server's children: the running worker, a spare one, and those that are exiting.

The fork server is a subreaper: any process that a worker leaves behind becomes its child.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from attnbench.isolation.scratch import remove


@dataclass(frozen=True)
class ForkedWorker:
    """A worker.

    Attributes:
        pid: its process ID.
        folder: its own folder.
        channel: the judge's end of its channel.
        output: the file in memory that holds what it prints.
    """

    pid: int
    folder: Path
    channel: socket.socket
    output: FileIO

    def close(self) -> None:
        """Close this process's ends of the worker's channel and output."""
        self.channel.close()
        self.output.close()


class WorkerProcesses:
    """Runs one worker at a time, and kills every process that it started along with it.

    A fork takes about as long as a small network needs for a hundred images. So the next worker, the
    spare, is forked while the current one starts. It only waits: no submission has run in it.
    """

    def __init__(self) -> None:
        self._running: ForkedWorker | None = None
        self._spare: ForkedWorker | None = None
        self._exiting: list[ForkedWorker] = []

    def begin(self, fork: Callable[[], ForkedWorker]) -> ForkedWorker:
        """Start a worker: the spare one, or a newly forked one if there is no live spare.

        Args:
            fork: forks a worker.
        """
        spare, self._spare = self._spare, None
        if spare is not None and _exit_code_within(spare.pid, 0.0) is not None:
            spare.close()
            remove(spare.folder)
            spare = None
        self._running = spare or fork()
        return self._running

    def keep_spare(self, fork: Callable[[], ForkedWorker]) -> None:
        """Fork a spare worker for the next request.

        Args:
            fork: forks a worker.
        """
        self._spare = fork()

    def end(self) -> None:
        """Kill the worker and every process it started. None of them runs after this returns.

        A process with a large network in its memory takes a while to exit. If the worker has no
        children, only `reap` waits for its exit: a killed process cannot start another.
        """
        running, self._running = self._running, None
        if running is None:
            return
        self._exiting.append(running)
        os.kill(running.pid, signal.SIGKILL)
        remove(running.folder)  # before the next worker begins, so that it cannot find anything
        # The worker's children first, then ours: when a worker exits, its children become ours.
        known = {worker.pid for worker in self._exiting}
        if _children_of(running.pid) or set(self._other_children()) - known:
            self.reap()

    def reap(self) -> None:
        """Kill every child but the spare worker, wait for them to exit, and remove their folders.

        There must be no running worker.
        """
        while others := self._other_children():
            for pid in others:
                os.kill(pid, signal.SIGKILL)
            for pid in others:
                os.waitpid(pid, 0)
        for worker in self._exiting:
            remove(worker.folder)
        self._exiting.clear()

    def exit_code(self, grace: float) -> int | None:
        """End the worker, after giving it some time to end by itself.

        Args:
            grace: seconds to wait.

        Returns:
            Its exit code, negative for a signal, or None if it was still alive.
        """
        running, self._running = self._running, None
        if running is None:
            return None
        status = _exit_code_within(running.pid, grace)
        self._exiting.append(running)
        self.reap()
        return status

    def end_all(self) -> None:
        """End the running worker and the spare one, with every process that they started."""
        for worker in (self._running, self._spare):
            if worker is not None:
                worker.close()
                self._exiting.append(worker)
        self._running = self._spare = None
        self.reap()

    def _other_children(self) -> list[int]:
        """Return the process IDs of this process's children, except the spare worker."""
        spare = None if self._spare is None else self._spare.pid
        return [pid for pid in _children_of(os.getpid()) if pid != spare]


def _children_of(pid: int) -> list[int]:
    """Return the children of all threads of a process; an empty list if it has ended."""
    children: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += [int(child) for child in listing.read_text().split()]
        except OSError:  # the thread has ended in the meantime
            continue
    return children


def _exit_code_within(pid: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.005)
