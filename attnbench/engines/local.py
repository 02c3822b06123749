"""The engine for one machine: a process for each of the episodes that run at once."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace

import psutil

from attnbench.engines.dispatch import dispatch
from attnbench.engines.engine import Conditions, Finished, Job, Run
from attnbench.engines.seat import ProcessSeat
from attnbench.engines.station import Station
from attnbench.errors import AttnbenchError
from attnbench.materials import Materials


class Local:
    """Episodes one after the other in this process, or several at a time, each in one of its own.

    Several share out the processor's cores, or have a GPU each; by default there are as many as GPUs,
    and one on a processor.

    Args:
        materials: what this process has loaded for the run already.
    """

    def __init__(self, materials: Materials | None = None) -> None:
        self._materials = materials

    @contextlib.contextmanager
    def open(self, conditions: Conditions) -> Iterator[Run]:
        """See `Engine`."""
        gpus = visible_gpus() if conditions.device == "cuda" else []
        workers = conditions.workers or max(1, len(gpus))
        if gpus and workers > len(gpus):
            raise AttnbenchError(
                f"--workers {workers}, but {len(gpus)} GPUs: an adaptation is timed on a GPU of its own"
            )
        if workers == 1:
            with Station(conditions, self._materials) as station:
                yield functools.partial(one_by_one, station)
            return
        threads = conditions.threads or max(1, physical_cores() // workers)
        shared = replace(conditions, at_once=workers, threads=threads)
        begin = functools.partial(Station, shared)
        devices = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] or [{}] * workers
        seats = [
            ProcessSeat(begin, {"OMP_NUM_THREADS": str(threads)} | device)
            for device in devices[:workers]
        ]
        yield functools.partial(dispatch, seats)


def one_by_one(station: Station, jobs: Iterable[Job]) -> Generator[Finished]:
    """Judge the jobs in their order, yielding each as it ends."""
    for job in jobs:
        yield Finished(job, station.judge(job))


def physical_cores() -> int:
    """Of this machine, or of the part of it that this process may use; what torch would take."""
    usable = len(os.sched_getaffinity(0))
    return min(usable, psutil.cpu_count(logical=False) or usable)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = [str(number) for number in range(torch.cuda.device_count())]
    return named.split(",")[: len(numbers)] if named else numbers
