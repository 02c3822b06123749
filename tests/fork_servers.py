"""Quick starts of fork servers, for tests that start many.

A fork server takes seconds to import torch. Here, one process imports it, and each fork server is a
fork of that process. Whatever comes after the import is as usual.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

_MOST_BYTES = 1 << 20


class ForkedServer:
    """A fork server: what its judge uses of `subprocess.Popen`.

    Args:
        pid: its process.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended. Its exit code is unknown."""
        ready, _, _ = select.select([self._descriptor], [], [], timeout)
        if not ready:
            raise subprocess.TimeoutExpired("fork server", timeout or 0.0)
        return 0

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def __del__(self) -> None:
        os.close(self._descriptor)


class ForkServers:
    """Starts fork servers from a process that has imported what they need.

    Attributes:
        started: how many there were.
    """

    DEVNULL = subprocess.DEVNULL
    TimeoutExpired = subprocess.TimeoutExpired

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.started = 0
        self._home = tempfile.TemporaryDirectory()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                # torch makes folders in its home when it is imported.
                env={**environment, "HOME": self._home.name, "TMPDIR": self._home.name},
            )

    def Popen(
        self,
        line: Sequence[str],
        *,
        pass_fds: Sequence[int],
        env: Mapping[str, str],
        stderr: IO[bytes],
        **others: Any,
    ) -> ForkedServer | subprocess.Popen[bytes]:
        """Start a fork server. One inside bubblewrap is started as usual."""
        if line[:4] != [sys.executable, "-P", "-m", "attnbench.sandbox"]:
            return subprocess.Popen(line, pass_fds=pass_fds, env=env, stderr=stderr, **others)
        request = json.dumps(dict(env)).encode()
        socket.send_fds(self._socket, [request], [*pass_fds, stderr.fileno()])
        self.started += 1
        return ForkedServer(int(self._socket.recv(_MOST_BYTES)))

    def close(self) -> None:
        """End the process that they are forks of."""
        self._socket.close()
        self._process.wait()
        self._home.cleanup()


def serve(stream: socket.socket) -> None:
    """Fork a server for each request, until the other end is closed."""
    import attnbench.sandbox.__main__ as sandbox
    import attnbench.sandbox.fork_server  # noqa: F401 - what takes time

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    own_path = [entry for entry in sys.path if entry not in os.environ["PYTHONPATH"].split(":")]
    while True:
        request, descriptors, _, _ = socket.recv_fds(stream, _MOST_BYTES, 2)
        if not request:
            return
        pid = os.fork()
        if pid:
            for descriptor in descriptors:
                os.close(descriptor)
            stream.send(str(pid).encode())
            continue
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            stream.close()
            _become_fork_server(json.loads(request), own_path, descriptors[1])
            sandbox.main(descriptors[0])
        finally:
            os._exit(0)


def _become_fork_server(environment: dict[str, str], own_path: list[str], stderr: int) -> None:
    """Take over what `subprocess.Popen` would give a new process."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = [*environment["PYTHONPATH"].split(":"), *own_path]
    null = os.open(os.devnull, os.O_RDWR)
    for stream, descriptor in ((0, null), (1, null), (2, stderr)):
        os.dup2(descriptor, stream)
    os.close(null)
    os.close(stderr)
    os.chdir("/")


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
