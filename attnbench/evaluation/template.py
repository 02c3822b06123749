"""The warm start: a process that has imported torch and loaded a backbone, and forks workers.

It runs no submission itself. One worker lives at a time; everything a worker started dies with it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import psutil
import torch
import torch._dynamo  # torch.optim imports it at the first step: here once instead of in each worker

from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.errors import AttnbenchError
from attnbench.evaluation.channel import Channel, ChannelClosed, Message
from attnbench.evaluation.worker import serve

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main(descriptor: int) -> None:
    """Serve the evaluator at the other end of the socket `descriptor` until it goes away.

    `HOME` is the folder made for this process and its workers, which is removed with them.
    """
    # A forked child cannot use a thread pool that its parent has started, so this process never
    # starts one: a single thread here, the job's number of threads in the worker.
    torch.set_num_threads(1)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    control = socket.socket(fileno=descriptor)
    channel = Channel(control)
    backbone: Backbone | None = None
    worker: int | None = None
    channel.send(Message("ready"))
    try:
        while True:
            request = channel.receive()
            if request.kind == "backbone":
                try:
                    backbone = _load_warm(request)
                    channel.send(Message("loaded"))
                except AttnbenchError as error:
                    channel.send(Message("failed", {"reason": str(error)}))
            elif request.kind == "fork":
                assert backbone is not None
                _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
                worker = _fork(backbone, descriptors[0], control, str(request.fields["folder"]))
                channel.send(Message("forked", {"pid": worker}))
            elif request.kind == "end":
                channel.send(Message("ended", {"status": _end(worker, request.fields["grace"])}))
                worker = None
    except ChannelClosed:  # the evaluator has left, maybe without a word: nothing stays behind
        _end(worker, 0.0)
        os.chdir("/")
        shutil.rmtree(os.environ["HOME"], ignore_errors=True)


def _load_warm(request: Message) -> Backbone:
    data = request.fields["data"]
    backbone = load(
        str(request.fields["name"]),
        untrained=bool(request.fields["untrained"]),
        data=None if data is None else Path(data),
    )
    size = backbone.preprocessing.size
    with torch.no_grad():
        backbone(torch.zeros(1, 3, size, size))
    gc.freeze()  # the collector would otherwise touch, and so copy, every page in each worker
    return backbone


def _fork(backbone: Backbone, descriptor: int, control: socket.socket, folder: str) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(descriptor)
        return pid
    try:
        control.close()
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.chdir(folder)
        serve(Channel(socket.socket(fileno=descriptor)), backbone)
    finally:
        os._exit(0)


def _end(worker: int | None, grace: float) -> int | None:
    """Kill the worker and all it started, after `grace` seconds in which it may end by itself.

    Returns its exit code (negative: a signal), None if it was alive.
    """
    status = None if worker is None else _exit_code_within(worker, grace)
    if worker is not None and status is None:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
    # This process is the subreaper: orphans of the worker are its children now.
    while children := psutil.Process().children(recursive=True):
        for child in children:
            try:
                child.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(children, timeout=1)
        _reap()
    return status


def _exit_code_within(worker: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(worker, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.005)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
