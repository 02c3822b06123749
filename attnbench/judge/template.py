"""The judge's handles on the fork server and on the running worker.

The fork server (`attnbench.sandbox.fork_server`) is the template of all workers: each is a fork of it.
"""

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
from attnbench.resources import download_folders, weights_folder, weights_folders
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
# The variables that workers inherit from the user, besides those of `_environment`. None of them
# reveals data sets, records or secrets.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME")
_START_SECONDS = 300.0
# How much of what a worker prints is kept: its end, in bytes.
_PRINTED_BYTES = 4_900
# Every layer allocates and frees large tensors. Keep that memory, in pages of 2 MiB, instead of
# returning it to the system and requesting small pages again.
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
        stream: the socket to the worker.
        process: a descriptor of the process (see pidfd_open(2)).
        output: a descriptor of the file in memory that holds what it prints.

    Attributes:
        channel: the channel over that socket.
        process: the descriptor of the process.
    """

    def __init__(self, stream: socket.socket, process: int, output: int) -> None:
        self.channel = Channel(stream)
        self.process = process
        self._stream = stream
        self._output = output

    def receive(self, deadline: float, limit: int) -> Message:
        """Receive the worker's next message.

        A process that the worker has started may hold the socket open after the worker has died. So
        this method watches the worker's process too.

        Args:
            deadline: when to give up, on the scale of `time.monotonic()`.
            limit: the most bytes that the message's arrays may have together.

        Raises:
            ChannelClosed, ChannelTimeout, ProtocolError: see `Channel.receive`.
        """
        descriptors = [self._stream.fileno(), self.process]
        ready, _, _ = select.select(descriptors, [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise ChannelTimeout
        if self._stream.fileno() not in ready:
            raise ChannelClosed
        return self.channel.receive(deadline, limit)

    def printed(self) -> str:
        """Return the end of what the worker has printed so far, at most 5,000 characters.

        The worker may crash, or write anything to its file at any time: this works regardless.
        """
        size = os.fstat(self._output).st_size
        start = max(0, size - _PRINTED_BYTES)
        text = os.pread(self._output, _PRINTED_BYTES, start).decode("utf-8", "replace")
        return f"[… {start:,} bytes before this are not kept]\n{text}" if start else text


class Template:
    """Starts the fork server, which then forks workers in milliseconds.

    A context manager: leaving it ends every process it started. The constructor returns before the
    fork server has imported torch; the first `load` waits for that.

    Args:
        isolation: `process`, or `bwrap` for a fork server inside bubblewrap.
        limits: the resource limits of each worker.
        modules: modules to import once in the fork server, for all workers (see
            `attnbench.sandbox.libraries`).
        hidden: files and folders that workers must not see.
        data: a folder whose `weights` sub-folder may hold weights of backbones.
        backbone_files: files of backbones of the user's own. The fork server reads them; workers
            cannot.

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
        backbone_files: Sequence[Path] = (),
    ) -> None:
        if isolation not in ISOLATION_LEVELS:
            raise AttnbenchError(f"unknown isolation {isolation!r}; choose process or bwrap")
        self._modules = sorted(set(modules))
        self._hidden = visible_paths.hidden_folders(hidden)
        self._data = None if data is None else data.resolve()
        self._backbone_files = backbone_files
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
        readable = [
            *visible_paths.program_folders(),
            *weights_folders(self._data),
            *self._backbone_files,
        ]
        # The fork server reads the weights. Landlock hides them from the workers.
        hidden = [path for path in self._hidden if path != weights_folder().resolve()]
        return [*bubblewrap.sandbox_command(readable, hidden), *line]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._channel.close()  # the fork server ends its workers and itself when it sees this
        if not self._is_ready:
            # While it is importing, it does not notice that the channel is closed.
            self._process.kill()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._stderr.close()
        remove_abandoned()

    def load(self, name: str, *, untrained: bool) -> None:
        """Load the backbone that workers inherit.

        Args:
            name: see `attnbench.backbones.load`. Paths are absolute.
            untrained: whether its weights stay as initialised.

        Raises:
            AttnbenchError: if it cannot be loaded, or workers cannot share one of the modules.
        """
        if not self._is_ready:
            self._prepare()
        folder = None if self._data is None else str(self._data)
        self._send(Message("backbone", {"name": name, "untrained": untrained, "data": folder}))
        self._expect("loaded")

    def warm_up(self, *, counts: Sequence[int], batches: Sequence[int], threads: int) -> None:
        """Create the CPU kernels that workers will need. This costs nothing if they exist.

        Args:
            counts: the numbers of positives and of negatives that a worker adapts on.
            batches: the sizes of the batches that a worker predicts.
            threads: how many threads a worker has.
        """
        needed = {"counts": list(counts), "batches": list(batches), "threads": threads}
        self._send(Message("warm up", needed))
        self._expect("warm")

    def _prepare(self) -> None:
        self._expect("ready")
        hidden = [str(path) for path in self._hidden]
        fields = {"hidden": hidden, "limits": asdict(self._limits), "modules": self._modules}
        self._send(Message("prepare", fields))
        self._expect("prepared")
        self._is_ready = True

    @contextlib.contextmanager
    def worker(self) -> Iterator[Worker]:
        """Fork a worker. Leaving the context kills it and every process that it started."""
        self._send(Message("fork"))
        self._expect("forked")
        try:
            stream = socket.socket(fileno=self._channel.receive_descriptor())
            process = self._channel.receive_descriptor()
            output = self._channel.receive_descriptor()
        except (ChannelClosed, ProtocolError):
            raise self._gone() from None
        try:
            yield Worker(stream, process, output)
        finally:
            stream.close()
            os.close(process)
            os.close(output)
            self._send(Message("end"))

    def settle(self) -> None:
        """Wait until earlier workers have exited, and everything they started or wrote is gone."""
        self._send(Message("settle"))
        self._expect("settled")

    def exit_code(self, grace: float) -> int | None:
        """End the worker, and return its exit code if it had ended by itself, else None.

        Args:
            grace: seconds to wait until it ends. A dying process closes its channel shortly before
                its exit code can be read.
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
        """Return the error for a fork server that does not answer, with the end of its stderr."""
        self._stderr.seek(0)
        lines = self._stderr.read()[-10_000:].decode(errors="replace").strip().splitlines()
        last_line = f": {lines[-1]}" if lines else ""
        return AttnbenchError(
            f"the process that starts workers has ended or hangs{last_line}. "
            "Finished episodes are kept: run the same command again."
        )


def _environment(isolation: IsolationLevel) -> dict[str, str]:
    """Return the environment variables of the fork server, which its workers inherit."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    if isolation == "process" and "TMPDIR" in os.environ:
        environment["TMPDIR"] = os.environ["TMPDIR"]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    # The fork server has another home. These say where the evaluator's downloads are, so that it finds
    # weights there and downloads none itself. Workers know the folders' names, but cannot list them.
    environment.update({name: str(folder) for name, folder in download_folders().items()})
    environment["HF_HUB_OFFLINE"] = "1"
    # By default, NumPy's BLAS threads spin for 2^26 cycles after a product. Torch needs those cores.
    environment["OPENBLAS_THREAD_TIMEOUT"] = "4"
    environment["GLIBC_TUNABLES"] = MALLOC_TUNABLES
    environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # required for deterministic cuBLAS
    return environment
