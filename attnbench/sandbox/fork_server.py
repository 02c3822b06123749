"""The fork server: it imports torch, loads a backbone once, and forks workers that inherit both.

It runs no submission code itself.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
import time
from io import FileIO
from pathlib import Path

import torch
import torch._dynamo

from attnbench.backbones import load
from attnbench.errors import AttnbenchError
from attnbench.isolation.confinement import Confinement, Limits, confine, prepare
from attnbench.isolation.linux import (
    become_subreaper,
    count_threads,
    return_freed_memory,
)
from attnbench.isolation.scratch import Scratch
from attnbench.sandbox import worker
from attnbench.sandbox.libraries import import_libraries
from attnbench.sandbox.printed_output import buffer_output_by_line
from attnbench.sandbox.processes import ForkedWorker, WorkerProcesses
from attnbench.sandbox.warm_state import WarmState
from attnbench.wire.channel import Channel, ChannelClosed, Message

# How long to wait for the threads of a pool, which end shortly after the thread that owns it.
_POOL_EXIT_SECONDS = 1.0


def serve_forks(channel: Channel, scratch: Scratch) -> None:
    """Load backbones and fork workers at the judge's request, until it closes the channel.

    Args:
        channel: the channel to the judge.
        scratch: the folder that will contain the workers' own folders.
    """
    # A forked child cannot use a thread pool that its parent has started. So this thread never
    # starts one (see `_warm_up_in_thread`), and each worker sets its own number of threads.
    torch.set_num_threads(1)
    become_subreaper()
    buffer_output_by_line()
    server = _ForkServer(channel, scratch)
    channel.send(Message("ready"))
    try:
        while True:
            server.handle(channel.receive())
    except ChannelClosed:  # the judge has ended, perhaps without notice
        server.workers.end_all()


class _ForkServer:
    """Answers the judge's requests, one at a time."""

    def __init__(self, channel: Channel, scratch: Scratch) -> None:
        self.workers = WorkerProcesses()
        self._channel = channel
        self._scratch = scratch
        self._state: WarmState | None = None
        self._confinement: Confinement | None = None

    def handle(self, request: Message) -> None:
        """Carry out one request."""
        match request.kind:
            case "prepare":
                hidden = [Path(path) for path in request.fields["hidden"]]
                limits = Limits(**request.fields["limits"])
                try:
                    import_libraries(request.fields["modules"])
                    self._confinement = prepare(self._scratch.folder, hidden, limits)
                    self._channel.send(Message("prepared"))
                except AttnbenchError as error:
                    self._channel.send(Message("failed", {"reason": str(error)}))
            case "backbone":
                self.workers.end_all()
                try:
                    self._state = _load_warm(request)
                    self._channel.send(Message("loaded"))
                except AttnbenchError as error:
                    self._channel.send(Message("failed", {"reason": str(error)}))
            case "warm up":
                self._warm_up(request)
                self._channel.send(Message("warm"))
            case "fork":
                forked = self.workers.begin(self._fork)
                self._channel.send(Message("forked"))
                _hand_over(forked, self._channel)
                self.workers.keep_spare(self._fork)
            case "end":
                self.workers.end()
            case "settle":
                self.workers.reap()
                self._channel.send(Message("settled"))
            case "exit code":
                status = self.workers.exit_code(request.fields["grace"])
                self._channel.send(Message("ended", {"status": status}))

    def _warm_up(self, request: Message) -> None:
        assert self._state is not None
        counts, shown = request.fields["counts"], request.fields["batches"]
        if cold := {*self._state.pass_batch_sizes(counts), *shown} - self._state.warm_sizes:
            self.workers.end_all()  # the spare worker has inherited a cold state
            _warm_up_in_thread(self._state, cold, int(request.fields["threads"]))

    def _fork(self) -> ForkedWorker:
        assert self._state is not None and self._confinement is not None
        folder = self._scratch.new_folder()
        ours, theirs = socket.socketpair()
        output = FileIO(os.memfd_create("printed"), "r+")
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            theirs.close()
            return ForkedWorker(pid, folder, ours, output)
        # Only the child gets here. It must never return into the server's loop.
        try:
            descriptors = theirs.fileno(), output.fileno()
            in_force = confine(folder, *descriptors, self._confinement)
            worker.serve(Channel(theirs), self._state, folder, in_force)
        finally:
            os._exit(0)


def _load_warm(request: Message) -> WarmState:
    """Load a backbone, and prepare whatever else workers inherit."""
    data = request.fields["data"]
    backbone = load(
        str(request.fields["name"]),
        untrained=bool(request.fields["untrained"]),
        data=None if data is None else Path(data),
    )
    size = backbone.preprocessing.size
    with torch.no_grad():
        backbone(torch.zeros(1, 3, size, size))
    state = WarmState(backbone)
    # The garbage collector writes to every object it tracks, and a forked worker would have to copy
    # each page that is written to. The collector leaves frozen objects alone.
    gc.freeze()
    return_freed_memory()  # a worker would reuse freed pages, and so copy them
    return state


def _warm_up_in_thread(state: WarmState, sizes: set[int], threads: int) -> None:
    """Create the kernels that workers will need, for the number of threads that they will have.

    This runs in a thread of its own. The thread pool that the layers start belongs to that thread
    and ends with it, so that this process can still fork.
    """

    def run() -> None:
        torch.set_num_threads(threads)
        state.warm_up(sorted(sizes))

    before = count_threads()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    torch.set_num_threads(1)
    deadline = time.monotonic() + _POOL_EXIT_SECONDS
    while count_threads() > before and time.monotonic() < deadline:
        time.sleep(0.001)
    return_freed_memory()


def _hand_over(forked: ForkedWorker, channel: Channel) -> None:
    """Send the judge the worker's socket, a descriptor of its process, and its output."""
    process = os.pidfd_open(forked.pid)
    for descriptor in (forked.channel.fileno(), process, forked.output.fileno()):
        channel.send_descriptor(descriptor)
    os.close(process)
    forked.close()
