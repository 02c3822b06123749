"""An episode runner in a process of its own. That process runs this module."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Protocol

from attnbench.engines.engine import Job, Outcomes
from attnbench.engines.pool import RunnerLost
from attnbench.errors import AttnbenchError
from attnbench.isolation.linux import die_with_parent


class Runner(Protocol):
    """The interface of `EpisodeRunner`, which runs in the process."""

    def judge(self, job: Job) -> Outcomes:
        """Judge a job."""
        ...


class ProcessRunner:
    """An episode runner in another process of this machine; see `RunnerHandle`.

    Args:
        open_runner: opens the runner in that process. It must be picklable.
        environment: environment variables of the process, in addition to those of this one.
    """

    def __init__(
        self,
        open_runner: Callable[[], AbstractContextManager[Runner]],
        environment: Mapping[str, str],
    ) -> None:
        self._open_runner = open_runner
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def start(self) -> None:
        """Start the process. It loads torch and its backbone with the first job."""
        self.stop()
        ours, theirs = Pipe()
        module = "attnbench.engines.runner_process"
        descriptor, parent = str(theirs.fileno()), str(os.getpid())
        path = os.pathsep.join(entry for entry in sys.path if entry)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, descriptor, parent],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C must reach this process only
            )
        self._connection = ours
        with _lost_if_closed():
            ours.send(self._open_runner)

    def judge(self, job: Job) -> Outcomes:
        """See `EpisodeRunner.judge`. Raises RunnerLost if the process ends."""
        connection = self._connection
        if connection is None:
            raise RunnerLost
        with _lost_if_closed():
            connection.send(job)
            reply = connection.recv()
        if isinstance(reply, BaseException):
            raise reply
        outcomes: Outcomes = reply
        return outcomes

    def stop(self) -> None:
        """End the process. Its fork server notices, and ends what it has started."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        self._connection = None


@contextlib.contextmanager
def _lost_if_closed() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError):
        raise RunnerLost from None


def serve(connection: Connection) -> None:
    """Judge the jobs that come through a connection, until its other end is closed.

    Args:
        connection: its first message is the function that opens the runner.
    """
    with contextlib.closing(connection), connection.recv()() as runner:
        while True:
            try:
                job = connection.recv()
            except EOFError:
                return
            try:
                reply: Outcomes | BaseException = runner.judge(job)
            except AttnbenchError as error:
                reply = error
            connection.send(reply)


def _main(descriptor: str, parent: str) -> None:
    # Without this, a parent that is killed would leave its runners behind.
    die_with_parent(signal.SIGKILL)
    if os.getppid() == int(parent):  # the parent had not ended before that call
        serve(Connection(int(descriptor)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
