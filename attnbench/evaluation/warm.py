"""The evaluator's handle on the template process and on the one worker that is alive."""

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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self, get_args

from attnbench.errors import AttnbenchError
from attnbench.evaluation.channel import (
    Channel,
    ChannelClosed,
    ChannelGarbage,
    ChannelTimeout,
    Message,
)
from attnbench.evaluation.isolation import Isolation, bubblewrap, reach
from attnbench.evaluation.isolation.confinement import Limits, limits_for
from attnbench.evaluation.workers.scratch import remove_left_behind
from attnbench.resources import weights_folder, weights_folders

# What a worker may know of its surroundings: nothing of data sets, records or the user.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME")
_START_SECONDS = 300.0
MALLOC = ":".join(
    (
        "glibc.malloc.hugetlb=1",
        f"glibc.malloc.mmap_threshold={4 << 30}",
        f"glibc.malloc.trim_threshold={8 << 30}",
    )
)


class Worker:
    """A worker process, seen from the evaluator.

    Args:
        stream: the socket to it.
        process: a descriptor of the process (see pidfd_open(2)).
    """

    def __init__(self, stream: socket.socket, process: int) -> None:
        self.channel = Channel(stream)
        self._stream = stream
        self._process = process

    def receive(self, deadline: float, limit: int) -> Message:
        """The worker's next message. Raises ChannelClosed, ChannelTimeout or ChannelGarbage.

        A process that the worker started may keep the socket open after the worker has died, so
        the worker itself is watched too.
        """
        waiting = [self._stream.fileno(), self._process]
        ready, _, _ = select.select(waiting, [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise ChannelTimeout
        if self._stream.fileno() not in ready:
            raise ChannelClosed
        return self.channel.receive(deadline, limit)


class Template:
    """Starts workers in milliseconds. A context manager: leaving it ends every process it began.

    Args:
        isolation: `process`, or `bwrap` for a template inside bubblewrap's sandbox.
        hidden: files and folders that workers must not see even where they lie among programs.
        data: a folder whose `weights` sub-folder may hold backbones' weights.
        limits: on what a worker may use; by default those for a job of a day.

    Raises:
        AttnbenchError: for another isolation, or where bubblewrap is not installed.
    """

    def __init__(
        self,
        isolation: Isolation = "process",
        *,
        hidden: Sequence[Path] = (),
        data: Path | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._modules: list[str] = []
        if isolation not in get_args(Isolation):
            raise AttnbenchError(f"unknown isolation {isolation!r}; choose process or bwrap")
        self._hidden = reach.hidden_folders(hidden)
        self._data = None if data is None else data.resolve()
        self._limits = limits or limits_for(86_400.0)
        ours, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        if isolation == "process" and "TMPDIR" in os.environ:
            environment["TMPDIR"] = os.environ["TMPDIR"]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        # NumPy's threads would keep torch's from the cores for 2^26 cycles after each product.
        environment["OPENBLAS_THREAD_TIMEOUT"] = "4"
        # Large tensors come and go with every layer: pages of 2 MiB, kept, in place of new small ones.
        environment["GLIBC_TUNABLES"] = MALLOC
        environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # what deterministic cuBLAS needs
        line = [
            sys.executable,
            "-P",
            "-m",
            "attnbench.evaluation.workers.template",
            str(theirs.fileno()),
        ]
        if isolation == "bwrap":
            readable = [*reach.program_folders(), *weights_folders(self._data)]
            # The template reads the weights; Landlock keeps them from the workers.
            hidden = [path for path in self._hidden if path != weights_folder().resolve()]
            line = [*bubblewrap.command(readable, hidden), *line]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the template ends
        with theirs:
            self._process = subprocess.Popen(
                line,
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                start_new_session=True,
            )
        self._channel = Channel(ours)
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self._channel.close()  # the template ends its worker and itself when it sees this
        if not self._started:
            self._process.kill()  # still importing, it would see it late
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._said.close()
        remove_left_behind()

    def import_modules(self, modules: Iterable[str]) -> None:
        """Have modules imported once for all workers; to be said before the first `load`."""
        self._modules = sorted(set(modules))

    def load(self, name: str, *, untrained: bool) -> None:
        """Load the backbone that workers are to inherit. Raises AttnbenchError."""
        if not self._started:
            self._start()
        folder = None if self._data is None else str(self._data)
        self._tell(Message("backbone", {"name": name, "untrained": untrained, "data": folder}))
        self._expect("loaded")

    def warm_up(self, *, sides: Sequence[int], batches: Sequence[int], threads: int) -> None:
        """Have ready what workers on a CPU need for batches of images; what is ready takes no time.

        Args:
            sides: how many images a worker adapts to on each side.
            batches: the sizes of batches that it is shown.
            threads: how many it has.
        """
        needed = {"sides": list(sides), "batches": list(batches), "threads": threads}
        self._tell(Message("warm up", needed))
        self._expect("warm")

    def _start(self) -> None:
        self._expect("ready")
        hidden = [str(path) for path in self._hidden]
        fields = {"hidden": hidden, "limits": asdict(self._limits), "modules": self._modules}
        self._tell(Message("prepare", fields))
        self._started = True

    @contextlib.contextmanager
    def worker(self) -> Iterator[Worker]:
        """A fresh worker; killed, with all it started, when it is left."""
        self._tell(Message("fork"))
        self._expect("forked")
        try:
            stream = socket.socket(fileno=self._channel.receive_descriptor())
            process = self._channel.receive_descriptor()
        except (ChannelClosed, ChannelGarbage):
            raise self._gone() from None
        try:
            yield Worker(stream, process)
        finally:
            stream.close()
            os.close(process)
            self._tell(Message("end"))

    def settle(self) -> None:
        """Wait until the workers that were left have gone, with all they started and wrote."""
        self._tell(Message("settle"))
        self._expect("settled")

    def exit_code(self, grace: float) -> int | None:
        """End the worker; its exit code where it ended by itself.

        A process that dies closes its channel a moment before it can be waited for: `grace` is how
        many seconds to wait for that.
        """
        self._tell(Message("exit code", {"grace": grace}))
        status = self._expect("ended").fields["status"]
        return None if status is None else int(status)

    def _tell(self, message: Message) -> None:
        try:
            self._channel.send(message)
        except ChannelClosed:
            raise self._gone() from None

    def _expect(self, kind: str) -> Message:
        try:
            answer = self._channel.receive(time.monotonic() + _START_SECONDS)
        except (ChannelClosed, ChannelTimeout):
            raise self._gone() from None
        if answer.kind == "failed":
            raise AttnbenchError(str(answer.fields["reason"]))
        if answer.kind != kind:
            raise AttnbenchError(f"the process that starts workers answered {answer.kind!r}")
        return answer

    def _gone(self) -> AttnbenchError:
        """What to say where the template does not answer: with its last line, which tells why."""
        self._said.seek(0)
        lines = self._said.read()[-10_000:].decode(errors="replace").strip().splitlines()
        said = f": {lines[-1]}" if lines else ""
        return AttnbenchError(
            f"the process that starts workers ended or hangs{said}; "
            "what was measured is kept: run the same command again"
        )
