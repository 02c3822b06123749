"""The warm start: a process that has imported torch and loaded a backbone, and forks workers.

It runs no submission itself. One worker is at work at a time; everything it started dies with it.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch._dynamo  # torch.optim imports it at the first step: here once instead of in each worker

from attnbench.backbones import load
from attnbench.errors import AttnbenchError
from attnbench.evaluation import worker
from attnbench.evaluation.channel import Channel, ChannelClosed, Message
from attnbench.evaluation.isolation.confinement import Confinement, Limits, confine, prepare
from attnbench.evaluation.isolation.linux import become_subreaper
from attnbench.evaluation.scratch import Scratch, remove


@dataclass(frozen=True)
class _Forked:
    """A worker: its process, its folder, and the evaluator's end of its channel."""

    pid: int
    folder: Path
    channel: socket.socket


def serve_forks(channel: Channel, scratch: Scratch) -> None:
    """Load backbones and fork workers as the evaluator asks for them, until it goes away."""
    # A forked child cannot use a thread pool that its parent has started, so this process never
    # starts one: a single thread here, the job's number of threads in the worker.
    torch.set_num_threads(1)
    become_subreaper()
    stage: worker.Stage | None = None
    confinement: Confinement | None = None
    running: _Forked | None = None
    # A fork takes as long as a small network takes to look at a hundred images, so the next worker is
    # forked while the one before begins. It waits for its job; no submission has run in it.
    spare: _Forked | None = None
    channel.send(Message("ready"))
    try:
        while True:
            request = channel.receive()
            if request.kind == "prepare":
                for module in request.fields["modules"]:
                    importlib.import_module(module)
                hidden = [Path(path) for path in request.fields["hidden"]]
                confinement = prepare(scratch.folder, hidden, Limits(**request.fields["limits"]))
            elif request.kind == "backbone":
                _discard(spare)
                spare = None
                try:
                    stage = _load_warm(request)
                    channel.send(Message("loaded"))
                except AttnbenchError as error:
                    channel.send(Message("failed", {"reason": str(error)}))
            elif request.kind == "fork":
                assert stage is not None and confinement is not None
                if spare is None or _exit_code_within(spare.pid, 0.0) is not None:
                    spare = _fork(stage, scratch.new_folder(), confinement)
                running = spare
                channel.send(Message("forked"))
                _hand_out(running, channel)
                spare = _fork(stage, scratch.new_folder(), confinement)
            elif request.kind == "end":
                status = _end(running, request.fields["grace"], spare)
                running = None
                channel.send(Message("ended", {"status": status}))
    except ChannelClosed:  # the evaluator has left, maybe without a word: nothing stays behind
        _end(running, 0.0, None)


def _load_warm(request: Message) -> worker.Stage:
    data = request.fields["data"]
    backbone = load(
        str(request.fields["name"]),
        untrained=bool(request.fields["untrained"]),
        data=None if data is None else Path(data),
    )
    size = backbone.preprocessing.size
    with torch.no_grad():
        backbone(torch.zeros(1, 3, size, size))
    stage = worker.Stage(backbone)
    gc.freeze()  # the collector would otherwise touch, and so copy, every page in each worker
    return stage


def _fork(stage: worker.Stage, folder: Path, confinement: Confinement) -> _Forked:
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        theirs.close()
        return _Forked(pid, folder, ours)
    try:
        in_force = confine(folder, theirs.fileno(), confinement)
        worker.serve(Channel(theirs), stage, folder, in_force)
    finally:
        os._exit(0)


def _hand_out(forked: _Forked, channel: Channel) -> None:
    process = os.pidfd_open(forked.pid)
    for descriptor in (forked.channel.fileno(), process):
        channel.send_descriptor(descriptor)
    os.close(process)
    forked.channel.close()


def _discard(spare: _Forked | None) -> None:
    if spare is not None:
        spare.channel.close()
        _end(spare, 0.0, None)


def _end(running: _Forked | None, grace: float, spare: _Forked | None) -> int | None:
    """Kill the worker and all it started, after `grace` seconds in which it may end by itself.

    Returns its exit code (negative: a signal), None if it was alive.
    """
    status = None if running is None else _exit_code_within(running.pid, grace)
    # This process is the subreaper: what a worker leaves behind becomes its child, and when that is
    # killed, so does what it had started.
    while children := [pid for pid in _children() if spare is None or pid != spare.pid]:
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
    if running is not None:
        remove(running.folder)
    return status


def _children() -> list[int]:
    own = os.getpid()
    return [int(pid) for pid in Path(f"/proc/{own}/task/{own}/children").read_text().split()]


def _exit_code_within(pid: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.005)
