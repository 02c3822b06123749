"""The engine for one machine: one episode at a time, or several, each in a process of its own."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace

import psutil

from attnbench.engines.engine import CompletedJob, Job, RunJobs
from attnbench.engines.episode_runner import EpisodeRunner, open_runner
from attnbench.engines.pool import run_on_pool
from attnbench.engines.runner_process import ProcessRunner
from attnbench.errors import AttnbenchError
from attnbench.judge.conditions import Conditions
from attnbench.judge.resource_cache import ResourceCache


class Local:
    """Runs episodes one after the other in this process, or several at a time in other processes.

    Concurrent episodes share the CPU's cores equally, or have a GPU each. By default, one episode per
    GPU runs at a time, or one on a CPU.

    Args:
        resources: the backbones and stimuli that this process has already loaded.
    """

    def __init__(self, resources: ResourceCache | None = None) -> None:
        self._resources = resources

    @contextlib.contextmanager
    def open(self, conditions: Conditions) -> Iterator[RunJobs]:
        """See `Engine`."""
        gpus = visible_gpus() if conditions.device == "cuda" else []
        workers = conditions.workers or max(1, len(gpus))
        if gpus and workers > len(gpus):
            raise AttnbenchError(
                f"--workers {workers} needs as many GPUs, but this machine has {len(gpus)}: each "
                "adaptation is timed on a GPU of its own"
            )
        if workers == 1:
            with open_runner(conditions, self._resources) as runner:
                yield functools.partial(run_sequentially, runner)
            return
        threads = conditions.threads or max(1, physical_cores() // workers)
        shared = replace(conditions, sharing=workers, threads=threads)
        devices = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] or [{}] * workers
        runners = [
            ProcessRunner(
                functools.partial(open_runner, shared), {"OMP_NUM_THREADS": str(threads)} | device
            )
            for device in devices[:workers]
        ]
        yield functools.partial(run_on_pool, runners)


def run_sequentially(runner: EpisodeRunner, jobs: Iterable[Job]) -> Generator[CompletedJob]:
    """Judge the jobs in order, yielding each once it has completed."""
    for job in jobs:
        yield CompletedJob(job, runner.judge(job))


def physical_cores() -> int:
    """Return the number of physical cores that this process may use, torch's default for threads."""
    usable = len(os.sched_getaffinity(0))
    return min(usable, psutil.cpu_count(logical=False) or usable)


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = [str(number) for number in range(torch.cuda.device_count())]
    return named.split(",")[: len(numbers)] if named else numbers
