"""The evaluator's handle on the template process and on the one worker that is alive."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from attnbench.errors import AttnbenchError
from attnbench.evaluation.channel import Channel, ChannelClosed, ChannelTimeout, Message

# What a worker may know of its surroundings: nothing of data sets, records or the user.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME")
_START_SECONDS = 300.0


class Worker:
    """A worker process, seen from the evaluator: a channel and a folder that goes with it."""

    def __init__(self, channel: Channel, pid: int, source: Path) -> None:
        self.channel = channel
        self.pid = pid
        self.source = source

    def receive(self, deadline: float, limit: int) -> Message:
        """The worker's next message. Raises ChannelClosed, ChannelTimeout or ChannelGarbage.

        A process that the worker started may keep the socket open after the worker has died, so
        the worker itself is watched too.
        """
        with contextlib.closing(_ProcessEnd(self.pid)) as end:
            readable = end.wait_with(self.channel, deadline)
        if not readable:
            raise ChannelClosed
        return self.channel.receive(deadline, limit)


class _ProcessEnd:
    def __init__(self, pid: int) -> None:
        self._descriptor: int | None = None
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(ProcessLookupError):
                self._descriptor = os.pidfd_open(pid)

    def wait_with(self, channel: Channel, deadline: float) -> bool:
        """Wait until there is something to read (True) or the process has ended (False)."""
        waiting = [channel.fileno()] + ([] if self._descriptor is None else [self._descriptor])
        ready, _, _ = select.select(waiting, [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise ChannelTimeout
        return channel.fileno() in ready

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


class Template:
    """Starts workers in milliseconds. A context manager: leaving it ends every process it began."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        self._folder = tempfile.TemporaryDirectory(prefix="attnbench-", ignore_cleanup_errors=True)
        environment["HOME"] = environment["TMPDIR"] = self._folder.name
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "attnbench.evaluation.template", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd=self._folder.name,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._socket = ours
        self._channel = Channel(ours)
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()  # the template ends its worker and itself when it sees this
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._folder.cleanup()

    def load(self, name: str, *, untrained: bool, data: Path | None) -> None:
        """Load the backbone that workers are to inherit. Raises AttnbenchError."""
        if not self._started:
            self._expect("ready")
            self._started = True
        folder = None if data is None else str(data.resolve())
        self._channel.send(
            Message("backbone", {"name": name, "untrained": untrained, "data": folder})
        )
        self._expect("loaded")

    @contextlib.contextmanager
    def worker(self, submission: Path) -> Iterator[Worker]:
        """A fresh worker with its own copy of the submission's folder; ended and removed at the end."""
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        ours, theirs = socket.socketpair()
        try:
            source = folder / "source"
            shutil.copytree(submission, source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            self._channel.send(Message("fork", {"folder": str(folder)}))
            socket.send_fds(self._socket, [b"f"], [theirs.fileno()])
            theirs.close()
            pid = int(self._expect("forked").fields["pid"])
            yield Worker(Channel(ours), pid, source)
        finally:
            theirs.close()
            ours.close()
            self.end_worker()
            shutil.rmtree(folder, ignore_errors=True)

    def end_worker(self, grace: float = 0.0) -> int | None:
        """End the worker and all it started. Its exit code where it ended by itself.

        A process that dies closes its channel a moment before it can be waited for: `grace` is how
        many seconds to wait for that.
        """
        self._channel.send(Message("end", {"grace": grace}))
        status = self._expect("ended").fields["status"]
        return None if status is None else int(status)

    def _expect(self, kind: str) -> Message:
        try:
            answer = self._channel.receive(time.monotonic() + _START_SECONDS)
        except (ChannelClosed, ChannelTimeout):
            raise AttnbenchError(
                "the process that starts workers ended or hangs; "
                "try `python -c 'import attnbench.evaluation.template'` to see why"
            ) from None
        if answer.kind == "failed":
            raise AttnbenchError(str(answer.fields["reason"]))
        if answer.kind != kind:
            raise AttnbenchError(f"the process that starts workers answered {answer.kind!r}")
        return answer
