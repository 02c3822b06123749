"""The judge's handle on the fork server and on the worker that is alive."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self

from attnbench.errors import AttnbenchError
from attnbench.isolation import bubblewrap, visible_paths
from attnbench.isolation.confinement import Limits
from attnbench.isolation.scratch import remove_abandoned
from attnbench.resources import weights_folder, weights_folders
from attnbench.vocabulary import ISOLATION_LEVELS, IsolationLevel
from attnbench.wire.channel import (
    Channel,
    ChannelClosed,
    ChannelTimeout,
    Message,
    ProtocolError,
)

# The module that the fork server's process runs. The judge starts it by name and never imports it.
_SANDBOX = "attnbench.sandbox"
# All that a worker may know of the environment: nothing about data sets, records or the user.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME")
_START_SECONDS = 300.0
# Large tensors come and go with every layer. Keep their memory, in pages of 2 MiB, instead of
# returning it to the system and requesting new small pages.
MALLOC_TUNABLES = ":".join(
    (
        "glibc.malloc.hugetlb=1",
        f"glibc.malloc.mmap_threshold={4 << 30}",
        f"glibc.malloc.trim_threshold={8 << 30}",
    )
)


class Worker:
    """A worker process, as the judge sees it.

    Args:
        stream: the socket to it.
        process: a descriptor of the process (see pidfd_open(2)).

    Attributes:
        channel: the channel over that socket.
    """

    def __init__(self, stream: socket.socket, process: int) -> None:
        self.channel = Channel(stream)
        self._stream = stream
        self._process = process

    def receive(self, deadline: float, limit: int) -> Message:
        """The worker's next message. Raises ChannelClosed, ChannelTimeout or ProtocolError.

        A process that the worker has started may hold the socket open after the worker has died. So
        the worker itself is watched too.
        """
        descriptors = [self._stream.fileno(), self._process]
        ready, _, _ = select.select(descriptors, [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise ChannelTimeout
        if self._stream.fileno() not in ready:
            raise ChannelClosed
        return self.channel.receive(deadline, limit)


class Template:
    """Starts the fork server, which then forks workers in milliseconds.

    A context manager: leaving it ends every process it started. The constructor returns before the
    fork server has imported torch; the first `load` waits for that.

    Args:
        isolation: `process`, or `bwrap` for a fork server inside bubblewrap.
        limits: on what a worker may use.
        modules: imported once in the fork server, for all workers.
        hidden: files and folders that workers must not see.
        data: a folder whose `weights` sub-folder may hold weights of backbones.

    Raises:
        AttnbenchError: for an unknown isolation level, or if bubblewrap is not installed.
    """

    def __init__(
        self,
        isolation: IsolationLevel,
        *,
        limits: Limits,
        modules: Sequence[str] = (),
        hidden: Sequence[Path] = (),
        data: Path | None = None,
    ) -> None:
        if isolation not in ISOLATION_LEVELS:
            raise AttnbenchError(f"unknown isolation {isolation!r}; choose process or bwrap")
        self._modules = sorted(set(modules))
        self._hidden = visible_paths.hidden_folders(hidden)
        self._data = None if data is None else data.resolve()
        self._limits = limits
        ours, theirs = socket.socketpair()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `__exit__`
        with theirs:
            self._process = subprocess.Popen(
                self._command_line(isolation, theirs.fileno()),
                pass_fds=[theirs.fileno()],
                env=_environment(isolation),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                start_new_session=True,
            )
        self._channel = Channel(ours)
        self._is_ready = False

    def _command_line(self, isolation: IsolationLevel, descriptor: int) -> list[str]:
        line = [sys.executable, "-P", "-m", _SANDBOX, str(descriptor)]
        if isolation == "process":
            return line
        readable = [*visible_paths.program_folders(), *weights_folders(self._data)]
        # The fork server reads the weights. Landlock hides them from the workers.
        hidden = [path for path in self._hidden if path != weights_folder().resolve()]
        return [*bubblewrap.sandbox_command(readable, hidden), *line]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._channel.close()  # the fork server ends its workers and itself when it sees this
        if not self._is_ready:
            self._process.kill()  # it may still be importing, and would see it late
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._stderr.close()
        remove_abandoned()

    def load(self, name: str, *, untrained: bool) -> None:
        """Load the backbone that workers inherit. Raises AttnbenchError if it cannot be loaded."""
        if not self._is_ready:
            self._prepare()
        folder = None if self._data is None else str(self._data)
        self._send(Message("backbone", {"name": name, "untrained": untrained, "data": folder}))
        self._expect("loaded")

    def warm_up(self, *, counts: Sequence[int], batches: Sequence[int], threads: int) -> None:
        """Create the CPU kernels that workers will need. Costs nothing if they exist.

        Args:
            counts: how many images per class a worker adapts to.
            batches: the sizes of the batches it predicts.
            threads: how many threads it has.
        """
        needed = {"counts": list(counts), "batches": list(batches), "threads": threads}
        self._send(Message("warm up", needed))
        self._expect("warm")

    def _prepare(self) -> None:
        self._expect("ready")
        hidden = [str(path) for path in self._hidden]
        fields = {"hidden": hidden, "limits": asdict(self._limits), "modules": self._modules}
        self._send(Message("prepare", fields))
        self._is_ready = True

    @contextlib.contextmanager
    def worker(self) -> Iterator[Worker]:
        """A fresh worker. Leaving the context kills it, with all it started."""
        self._send(Message("fork"))
        self._expect("forked")
        try:
            stream = socket.socket(fileno=self._channel.receive_descriptor())
            process = self._channel.receive_descriptor()
        except (ChannelClosed, ProtocolError):
            raise self._gone() from None
        try:
            yield Worker(stream, process)
        finally:
            stream.close()
            os.close(process)
            self._send(Message("end"))

    def settle(self) -> None:
        """Wait until earlier workers have exited, and everything they started or wrote is gone."""
        self._send(Message("settle"))
        self._expect("settled")

    def exit_code(self, grace: float) -> int | None:
        """End the worker, and return its exit code if it had ended by itself, else None.

        Args:
            grace: seconds to wait for that. A dying process closes its channel shortly before its
                exit code can be read.
        """
        self._send(Message("exit code", {"grace": grace}))
        status = self._expect("ended").fields["status"]
        return None if status is None else int(status)

    def _send(self, message: Message) -> None:
        try:
            self._channel.send(message)
        except ChannelClosed:
            raise self._gone() from None

    def _expect(self, kind: str) -> Message:
        try:
            reply = self._channel.receive(time.monotonic() + _START_SECONDS)
        except (ChannelClosed, ChannelTimeout):
            raise self._gone() from None
        if reply.kind == "failed":
            raise AttnbenchError(str(reply.fields["reason"]))
        if reply.kind != kind:
            raise AttnbenchError(f"the fork server answered {reply.kind!r}, not {kind!r}")
        return reply

    def _gone(self) -> AttnbenchError:
        """The error for a fork server that does not answer, with the last line of its stderr."""
        self._stderr.seek(0)
        lines = self._stderr.read()[-10_000:].decode(errors="replace").strip().splitlines()
        last_line = f": {lines[-1]}" if lines else ""
        return AttnbenchError(
            f"the process that starts workers has ended or hangs{last_line}. "
            "Finished episodes are kept: run the same command again."
        )


def _environment(isolation: IsolationLevel) -> dict[str, str]:
    """The environment variables of the fork server, and so of its workers."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    if isolation == "process" and "TMPDIR" in os.environ:
        environment["TMPDIR"] = os.environ["TMPDIR"]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    # After a product, NumPy's threads spin for 2^26 cycles by default. Torch needs those cores.
    environment["OPENBLAS_THREAD_TIMEOUT"] = "4"
    environment["GLIBC_TUNABLES"] = MALLOC_TUNABLES
    environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # required for deterministic cuBLAS
    return environment
