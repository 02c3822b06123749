"""The engine for a Slurm cluster: a job array whose tasks take episodes from a shared queue."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import signal
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import submitit

from attnbench.engines.engine import MEMORY_BYTES, CompletedJob, Job, RunJobs
from attnbench.engines.job_queue import JobQueue, QueueConsumer
from attnbench.engines.local import physical_cores
from attnbench.errors import AttnbenchError
from attnbench.judge.conditions import Conditions

# Slurm's own variables, such as SBATCH_PARTITION and SBATCH_TIMELIMIT, take precedence.
_TIMEOUT_MINUTES = 24 * 60
_DEFAULT_WORKERS = 4
_POLL_SECONDS = 0.2
# The run ends after this many array tasks in a row have failed without a result.
_MAX_FAILURES = 3


class Slurm:
    """Runs episodes in the tasks of a job array, one per worker (4 by default).

    Args:
        folder: a folder on a file system that all machines share. No worker may see it.
        address: `local` runs the array tasks on this machine, without Slurm.
    """

    def __init__(self, folder: Path, address: str | None = None) -> None:
        if address not in (None, "local"):
            raise AttnbenchError(f"--address {address}: the slurm engine only knows `local`")
        self._folder = folder
        self._address = address

    @contextlib.contextmanager
    def open(self, conditions: Conditions) -> Iterator[RunJobs]:
        """See `Engine`."""
        if self._address is None and shutil.which("sbatch") is None:
            raise AttnbenchError(
                "this machine has no sbatch; --address local runs the same tasks without Slurm"
            )
        workers = conditions.workers or _DEFAULT_WORKERS
        is_local = self._address == "local"
        if is_local and conditions.device == "cuda" and workers > 1:
            raise AttnbenchError("--address local has one GPU for all tasks: use --workers 1")
        threads = conditions.threads or max(1, physical_cores() // (workers if is_local else 1))
        sharing = workers if is_local else 1
        shared = replace(conditions, workers=workers, threads=threads, sharing=sharing)
        with JobQueue.create(self._folder) as queue:
            executor = submitit.AutoExecutor(queue.folder / "log", cluster=self._address or "slurm")
            executor.update_parameters(
                name="attnbench",
                timeout_min=_TIMEOUT_MINUTES,
                cpus_per_task=threads,
                gpus_per_node=int(conditions.device == "cuda"),
                mem_gb=MEMORY_BYTES / 2**30,
                slurm_array_parallelism=workers,
            )
            array = TaskArray(executor, QueueConsumer(queue, shared), is_local=is_local)
            yield partial(_run, queue, array, workers)


@dataclass(frozen=True)
class TaskArray:
    """Starts and ends array tasks.

    Attributes:
        executor: submitit's executor.
        consume: the program of each task, which is called with the task's name.
        is_local: whether the tasks are processes of this machine.
    """

    executor: submitit.AutoExecutor
    consume: QueueConsumer
    is_local: bool

    def start(self, names: list[str]) -> dict[str, Any]:
        """Start a task for each name. Return submitit's job objects by name."""
        with _interrupts_ignored() if self.is_local else contextlib.nullcontext():
            return dict(zip(names, self.executor.map_array(self.consume, names), strict=True))

    def end(self, task: Any) -> None:
        """End a task, given submitit's job object. Its fork server notices and ends its workers."""
        if not self.is_local:
            task.cancel(check=False)
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            controller = psutil.Process(int(task.job_id))
            for process in [controller, *controller.children()]:
                process.kill()


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Have processes that start meanwhile ignore Ctrl-C: this process handles it for them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _run(
    queue: JobQueue, array: TaskArray, workers: int, jobs: Iterable[Job]
) -> Generator[CompletedJob]:
    """Run the jobs on up to `workers` array tasks, and replace tasks that end too early."""
    pending = {f"{number:08}": job for number, job in enumerate(jobs)}
    for name, job in pending.items():
        queue.put(name, job)
    numbers = map(str, itertools.count())
    tasks: dict[str, Any] = {}
    failures = 0
    try:
        while pending:
            new = list(itertools.islice(numbers, min(workers - len(tasks), queue.waiting())))
            if new:
                tasks.update(array.start(new))
            time.sleep(_POLL_SECONDS)
            # Checked before reading results: a task that has ended has handed in all its results.
            ended = [number for number, task in tasks.items() if task.done()]
            for name, result in queue.results():
                if isinstance(result, AttnbenchError):
                    raise result
                failures = 0
                yield CompletedJob(pending.pop(name), result)
            for number in ended:
                task = tasks.pop(number)
                queue.put_back(number, pending)
                if task.exception() is not None:
                    failures += 1
                    if failures == _MAX_FAILURES:
                        raise AttnbenchError(_describe_failure(task))
    finally:
        for task in tasks.values():
            array.end(task)


def _describe_failure(task: Any) -> str:
    lines = (task.stderr() or "").strip().splitlines()
    last_line = f": {lines[-1]}" if lines else ""
    return f"{_MAX_FAILURES} tasks of the job array failed without a result{last_line}"
