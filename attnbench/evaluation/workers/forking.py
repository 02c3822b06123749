"""The warm start: a process that has imported torch and loaded a backbone, and forks workers.

It runs no submission itself.
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
import socket
import sys
import threading
import time
from pathlib import Path

import torch
import torch._dynamo  # torch.optim imports it at the first step: here once instead of in each worker

import attnbench.adaptation  # noqa: F401 - as are what submissions share, and scipy
from attnbench.backbones import load
from attnbench.errors import AttnbenchError
from attnbench.evaluation.channel import Channel, ChannelClosed, Message
from attnbench.evaluation.isolation.confinement import Confinement, Limits, confine, prepare
from attnbench.evaluation.isolation.linux import (
    become_subreaper,
    give_back_freed_memory,
    threads_alive,
)
from attnbench.evaluation.workers import worker
from attnbench.evaluation.workers.offspring import Forked, Workers
from attnbench.evaluation.workers.scratch import Scratch
from attnbench.evaluation.workers.stage import Stage

# A pool of threads is gone a moment after the thread that it belonged to.
_POOL_ENDS_SECONDS = 1.0


def serve_forks(channel: Channel, scratch: Scratch) -> None:
    """Load backbones and fork workers as the evaluator asks for them, until it goes away."""
    # A forked child cannot use a thread pool that its parent has started, so this process never
    # starts one: a single thread here, the job's number of threads in the worker.
    torch.set_num_threads(1)
    become_subreaper()
    stage: Stage | None = None
    confinement: Confinement | None = None
    workers = Workers()
    channel.send(Message("ready"))
    try:
        while True:
            request = channel.receive()
            match request.kind:
                case "prepare":
                    for module in request.fields["modules"]:
                        importlib.import_module(module)
                    hidden = [Path(path) for path in request.fields["hidden"]]
                    limits = Limits(**request.fields["limits"])
                    confinement = prepare(scratch.folder, hidden, limits)
                case "backbone":
                    workers.end_all()
                    try:
                        stage = _load_warm(request)
                        channel.send(Message("loaded"))
                    except AttnbenchError as error:
                        channel.send(Message("failed", {"reason": str(error)}))
                case "warm up":
                    assert stage is not None
                    sides, shown = request.fields["sides"], request.fields["batches"]
                    if cold := {*stage.batch_sizes(sides), *shown} - stage.warm:
                        workers.end_all()  # the spare one would be cold
                        _warm_up(stage, cold, int(request.fields["threads"]))
                    channel.send(Message("warm"))
                case "fork":
                    assert stage is not None and confinement is not None
                    fork = functools.partial(_fork, stage, scratch, confinement)
                    forked = workers.begin(fork)
                    channel.send(Message("forked"))
                    _hand_out(forked, channel)
                    workers.keep_spare(fork)
                case "end":
                    workers.end()
                case "settle":
                    workers.reap()
                    channel.send(Message("settled"))
                case "exit code":
                    status = workers.exit_code(request.fields["grace"])
                    channel.send(Message("ended", {"status": status}))
    except ChannelClosed:  # the evaluator has left, maybe without a word: nothing stays behind
        workers.end_all()


def _load_warm(request: Message) -> Stage:
    data = request.fields["data"]
    backbone = load(
        str(request.fields["name"]),
        untrained=bool(request.fields["untrained"]),
        data=None if data is None else Path(data),
    )
    size = backbone.preprocessing.size
    with torch.no_grad():
        backbone(torch.zeros(1, 3, size, size))
    stage = Stage(backbone)
    gc.freeze()  # the collector would otherwise touch, and so copy, every page in each worker
    give_back_freed_memory()  # which a worker would otherwise use again, and so copy
    return stage


def _warm_up(stage: Stage, sizes: set[int], threads: int) -> None:
    """Have the kernels made that workers will need, for as many threads as they will have.

    In a thread of its own: the pool of threads that its layers start is its own, and ends with it.
    """

    def look() -> None:
        torch.set_num_threads(threads)
        stage.warm_up(sorted(sizes))

    before = threads_alive()
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    torch.set_num_threads(1)
    deadline = time.monotonic() + _POOL_ENDS_SECONDS
    while threads_alive() > before and time.monotonic() < deadline:
        time.sleep(0.001)
    give_back_freed_memory()


def _fork(stage: Stage, scratch: Scratch, confinement: Confinement) -> Forked:
    folder = scratch.new_folder()
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        theirs.close()
        return Forked(pid, folder, ours)
    try:
        in_force = confine(folder, theirs.fileno(), confinement)
        worker.serve(Channel(theirs), stage, folder, in_force)
    finally:
        os._exit(0)


def _hand_out(forked: Forked, channel: Channel) -> None:
    process = os.pidfd_open(forked.pid)
    for descriptor in (forked.channel.fileno(), process):
        channel.send_descriptor(descriptor)
    os.close(process)
    forked.channel.close()
