"""A station in a process of its own, and this module as what that process runs."""

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
from typing import TYPE_CHECKING, Protocol

from attnbench.engines.dispatch import SeatLost
from attnbench.engines.engine import Job
from attnbench.errors import AttnbenchError
from attnbench.evaluation.isolation.linux import die_with_parent

if TYPE_CHECKING:
    from attnbench.records.store import Measured


class Judge(Protocol):
    """What sits there: a `Station`."""

    def judge(self, job: Job) -> Measured:
        """What comes of a job."""
        ...


class ProcessSeat:
    """A station in a process of this machine; see `Seat`.

    Args:
        begin: what makes the station there; pickled.
        environment: what the process has in its environment beside what this one has.
    """

    def __init__(
        self, begin: Callable[[], AbstractContextManager[Judge]], environment: Mapping[str, str]
    ) -> None:
        self._begin = begin
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def start(self) -> None:
        """Begin; the process loads torch and its backbone with the first job."""
        self.stop()
        ours, theirs = Pipe()
        line = [
            sys.executable,
            "-P",
            "-m",
            "attnbench.engines.seat",
            str(theirs.fileno()),
            str(os.getpid()),
        ]
        path = os.pathsep.join(each for each in sys.path if each)
        with theirs:
            # A session of its own: Ctrl-C is this process's to handle.
            self._process = subprocess.Popen(
                line,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._connection = ours
        with _lost_if_gone():
            ours.send(self._begin)

    def judge(self, job: Job) -> Measured:
        """See `Station.judge`. Raises SeatLost where the process ends."""
        connection = self._connection
        if connection is None:
            raise SeatLost
        with _lost_if_gone():
            connection.send(job)
            answer = connection.recv()
        if isinstance(answer, BaseException):
            raise answer
        measured: Measured = answer
        return measured

    def stop(self) -> None:
        """End the process; its template sees that, and ends what it has started."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        self._connection = None


@contextlib.contextmanager
def _lost_if_gone() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError):
        raise SeatLost from None


def serve(connection: Connection) -> None:
    """Judge what comes through a connection, until its other end is closed."""
    with contextlib.closing(connection), connection.recv()() as station:
        while True:
            try:
                job = connection.recv()
            except EOFError:
                return
            try:
                answer: Measured | BaseException = station.judge(job)
            except AttnbenchError as error:
                answer = error
            connection.send(answer)


def _main(descriptor: str, parent: str) -> None:
    die_with_parent(signal.SIGKILL)
    if os.getppid() == int(parent):  # it has not ended before that was said
        serve(Connection(int(descriptor)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
