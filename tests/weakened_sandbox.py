"""The fork server without some of its defences: `python -m tests.weakened_sandbox DESCRIPTOR`.

`test_defences.py` has the judge start this module in place of `attnbench.sandbox`. The environment
variable `REMOVED_DEFENCES` names the functions below to call first.
"""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

VARIABLE = "REMOVED_DEFENCES"
# How long a worker that nobody kills has to end by itself.
_EXIT_SECONDS = 2.0


def no_landlock() -> None:
    """As on a kernel without Landlock."""
    from attnbench.isolation import landlock

    _replace(landlock, "prepare", lambda *arguments: None)


def no_seccomp() -> None:
    """As on a machine for which there is no filter."""
    from attnbench.isolation import seccomp

    _replace(seccomp, "restrict", lambda: False)


def share_hidden_modules() -> None:
    """Import for all workers whatever a submission imports."""
    from attnbench.sandbox import libraries

    _replace(libraries, "HIDDEN_PACKAGES", ())


def keep_capabilities() -> None:
    """Let workers keep the capabilities of root."""
    from attnbench.isolation import confinement

    _replace(confinement, "drop_capabilities", lambda: None)


def keep_descriptors() -> None:
    """Let workers keep all files that the fork server has open."""
    from attnbench.isolation import confinement

    _replace(confinement, "_close_descriptors_except", lambda kept: None)


def no_file_size_limit() -> None:
    """Let workers write files of any size."""
    from attnbench.isolation import confinement

    _replace(confinement, "_MAX_FILE_BYTES", resource.RLIM_INFINITY)


def no_memory_limit() -> None:
    """Let workers take any amount of memory."""
    from attnbench.isolation import confinement

    limit = confinement._set_limits
    _replace(
        confinement,
        "_set_limits",
        lambda limits: limit(replace(limits, memory_bytes=resource.RLIM_INFINITY)),
    )


def channel_on_standard_output() -> None:
    """Use a worker's standard output as its channel."""
    from attnbench.sandbox import worker
    from attnbench.wire.channel import Channel

    serve = worker.serve

    def serve_on_standard_output(channel: Channel, *arguments: Any) -> None:
        os.dup2(channel.fileno(), 1)
        channel.close()
        serve(Channel(socket.socket(fileno=1)), *arguments)

    _replace(worker, "serve", serve_on_standard_output)


def keep_modules_of_the_rehearsal() -> None:
    """Do not import the submission anew after the rehearsal."""
    from attnbench.sandbox import worker

    _replace(worker, "_reload_adapt", lambda source, modules_before: worker._load_adapt())


def time_in_the_worker() -> None:
    """Have the worker time the call of `adapt`, and send the seconds with the artefact."""
    from attnbench.sandbox import worker

    call, report = worker._call_adapt, vars(worker._Context)["report"].fget
    seconds = [0.0]

    def timed_call(*arguments: Any) -> Any:
        started = time.perf_counter()
        detector = call(*arguments)
        seconds.append(time.perf_counter() - started)
        return detector

    _replace(worker, "_call_adapt", timed_call)
    with_seconds = property(lambda context: {**report(context), "seconds": seconds[-1]})
    _replace(worker._Context, "report", with_seconds)


def no_reachable_state() -> None:
    """Pack nothing of what the detector's classes and functions hold."""
    from attnbench.sandbox import packing

    _replace(packing, "reachable_state", lambda objects, source: ())


def same_output_for_all() -> None:
    """Let all workers print into the same file."""
    from attnbench.sandbox import fork_server

    shared = FileIO(os.memfd_create("shared"), "r+")
    _replace(fork_server, "FileIO", lambda *arguments: FileIO(os.dup(shared.fileno()), "r+"))


def naive_failures() -> None:
    """Report the text of an exception as it is."""
    from attnbench.sandbox import worker

    def describe(error: BaseException, source: Path) -> dict[str, str]:
        return {"reason": f"{type(error).__name__}: {error}", "detail": ""}

    _replace(worker, "describe_failure", describe)


def same_folder_for_all() -> None:
    """Let all workers have the same folder, and write a submission's files there only once."""
    from attnbench.isolation.scratch import Scratch
    from attnbench.sandbox import processes, worker

    write = worker._write_source

    def shared_folder(scratch: Scratch) -> Path:
        folder = scratch.folder / "shared"
        folder.mkdir(exist_ok=True)
        return folder

    def write_once(folder: Path, files: dict[str, Any]) -> None:
        digest = hashlib.sha256()
        for path, content in sorted(files.items()):
            digest.update(path.encode() + content.tobytes())
        written = folder.with_name(digest.hexdigest())
        if not written.exists():
            write(written, files)
        folder.unlink(missing_ok=True)
        folder.symlink_to(written)

    _replace(Scratch, "new_folder", shared_folder)
    _replace(processes, "remove", lambda folder: None)
    _replace(worker, "_write_source", write_once)


def remove_gently() -> None:
    """Remove folders only as far as their permissions and Python's recursion limit allow."""
    from attnbench.isolation import scratch
    from attnbench.sandbox import processes

    def remove(path: Path) -> None:
        with suppress(OSError, RecursionError):
            shutil.rmtree(path)

    _replace(scratch, "remove", remove)
    _replace(processes, "remove", remove)


def kill_nothing() -> None:
    """Let workers end by themselves, like any program: once all of their threads have ended."""
    from attnbench.isolation.scratch import remove
    from attnbench.sandbox import worker
    from attnbench.sandbox.processes import ForkedWorker, WorkerProcesses, _exit_code_within

    serve = worker.serve

    def serve_until_threads_end(*arguments: Any) -> None:
        serve(*arguments)
        threading._shutdown()  # type: ignore[attr-defined]

    def end(workers: WorkerProcesses) -> None:
        if workers._running is not None:
            workers._exiting.append(workers._running)
        workers._running = None

    def reap(workers: WorkerProcesses) -> None:
        workers._exiting = [forked for forked in workers._exiting if not has_ended(forked)]

    def has_ended(forked: ForkedWorker) -> bool:
        with suppress(ChildProcessError):
            if _exit_code_within(forked.pid, _EXIT_SECONDS) is None:
                return False
        remove(forked.folder)
        return True

    _replace(worker, "serve", serve_until_threads_end)
    _replace(WorkerProcesses, "end", end)
    _replace(WorkerProcesses, "reap", reap)


def serve_in_threads() -> None:
    """Serve requests in threads of the fork server, so that nothing is confined or forgotten."""
    from attnbench.isolation.scratch import remove
    from attnbench.sandbox import fork_server, worker
    from attnbench.sandbox.processes import ForkedWorker
    from attnbench.wire.channel import Channel

    adapt = worker._adapt

    def adapt_in_new_modules(context: Any) -> None:
        # Even a judge with one process would import each submission anew.
        for name, module in list(sys.modules.items()):
            if "/source/" in (getattr(module, "__file__", None) or ""):
                del sys.modules[name]
        adapt(context)

    def start_thread(server: fork_server._ForkServer) -> ForkedWorker:
        folder = server._scratch.new_folder()
        ours, theirs = socket.socketpair()
        output = FileIO(os.memfd_create("printed"), "r+")

        assert server._state is not None
        state = server._state

        def serve() -> None:
            with theirs:
                worker.serve(Channel(theirs), state, folder, ())

        threading.Thread(target=serve, daemon=True).start()
        return ForkedWorker(os.getpid(), folder, ours, output)

    class Threads:
        """In place of `WorkerProcesses`."""

        _running: ForkedWorker | None = None

        def begin(self, start: Callable[[], ForkedWorker]) -> ForkedWorker:
            self._running = start()
            return self._running

        def keep_spare(self, start: Callable[[], ForkedWorker]) -> None:
            pass

        def end(self) -> None:
            if self._running is not None:
                remove(self._running.folder)

        def exit_code(self, grace: float) -> None:
            return None

        reap = end_all = end

    _replace(worker, "_adapt", adapt_in_new_modules)
    _replace(fork_server._ForkServer, "_fork", start_thread)
    _replace(fork_server, "WorkerProcesses", Threads)


def hand_over_the_object() -> None:
    """Predict with the object that `adapt` returned, in place of one unpacked from bytes."""
    from attnbench.sandbox import worker

    call = worker._call_adapt
    detectors = []

    def remembered_call(*arguments: Any) -> Any:
        detectors.append(call(*arguments))
        return detectors[-1]

    _replace(worker, "_call_adapt", remembered_call)
    _replace(worker, "unpack", lambda artefact, backbone: detectors[-1])


def _replace(owner: Any, name: str, value: object) -> None:
    if not hasattr(owner, name):
        raise AttributeError(f"{owner.__name__} has no {name}: it was renamed")
    setattr(owner, name, value)


def _main(descriptor: int) -> None:
    from attnbench.sandbox import __main__ as sandbox
    from attnbench.wire.channel import Channel

    # The functions above import torch. So they are called when the sandbox opens its channel: by then
    # it has prepared the environment for that import, and it serves no request yet.
    def open_weakened(stream: socket.socket) -> Channel:
        for name in os.environ[VARIABLE].split():
            globals()[name]()
        return Channel(stream)

    _replace(sandbox, "Channel", open_weakened)
    sandbox.main(descriptor)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
