"""The engine for a Slurm cluster: a job array whose tasks draw episodes from a shared folder."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import pickle
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import submitit

from attnbench.engines.engine import Conditions, Finished, Job, Run, needs_of
from attnbench.engines.local import physical_cores
from attnbench.engines.station import Station
from attnbench.errors import AttnbenchError
from attnbench.records.store import write_atomically

# Slurm's own variables, such as SBATCH_PARTITION and SBATCH_TIMELIMIT, say otherwise.
_MINUTES = 24 * 60
_WORKERS = 4
_LOOK_EVERY_SECONDS = 0.2
# So many tasks that end one after the other with nothing done end the run.
_ENDINGS = 3


@dataclass(frozen=True)
class Spool:
    """The folder in which an engine and its tasks meet: a file for each job, moved along.

    `todo` holds jobs, `taken` those that a task has drawn, `done` what came of them.
    """

    folder: Path

    @classmethod
    @contextlib.contextmanager
    def opened(cls, parent: Path) -> Iterator[Spool]:
        """A new one, removed in the end with those whose engine died without a word."""
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob("slurm-*"):
            if not cls(left).is_attended():
                shutil.rmtree(left, ignore_errors=True)
        spool = cls(Path(tempfile.mkdtemp(dir=parent, prefix="slurm-")))
        for name in ("todo", "taken", "done"):
            (spool.folder / name).mkdir()
        with (spool.folder / "attended").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield spool
            finally:
                shutil.rmtree(spool.folder, ignore_errors=True)
                with contextlib.suppress(OSError):
                    parent.rmdir()

    def is_attended(self) -> bool:
        """Whether the engine is still there: the kernel lets go of its lock when it ends."""
        try:
            with (self.folder / "attended").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def add(self, name: str, job: Job) -> None:
        """Have a job done."""
        write_atomically(self.folder / "todo" / name, pickle.dumps(job), self.folder)

    def waiting(self) -> int:
        """How many jobs nobody has drawn."""
        return len(list((self.folder / "todo").iterdir()))

    def draw(self, task: str) -> tuple[str, Job] | None:
        """A job and its name, for nobody else; None where there is none left."""
        for path in sorted((self.folder / "todo").iterdir()):
            taken = self.folder / "taken" / f"{path.name}@{task}"
            try:
                path.rename(taken)
                return path.name, pickle.loads(taken.read_bytes())
            except FileNotFoundError:
                continue  # another task was quicker
        return None

    def finish(self, name: str, answer: object) -> None:
        """Hand in what came of a job."""
        write_atomically(self.folder / "done" / name, pickle.dumps(answer), self.folder)

    def finished(self) -> Iterator[tuple[str, Any]]:
        """What has been handed in, each once."""
        for path in sorted((self.folder / "done").iterdir()):
            yield path.name, pickle.loads(path.read_bytes())
            path.unlink()

    def put_back(self, task: str, names: Iterable[str]) -> None:
        """Have those of these jobs that a task had drawn done by another."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (self.folder / "taken" / f"{name}@{task}").rename(self.folder / "todo" / name)


@dataclass(frozen=True)
class Draws:
    """What a task of the array does: judge what it draws, until nothing is left."""

    spool: Spool
    conditions: Conditions

    def __call__(self, task: str) -> None:
        """Be that task."""
        at_once = max(self.conditions.at_once, 1 if _has_the_node() else 2)
        with Station(replace(self.conditions, at_once=at_once)) as station:
            while self.spool.is_attended() and (drawn := self.spool.draw(task)):
                name, job = drawn
                try:
                    answer: object = station.judge(job)
                except AttnbenchError as error:
                    answer = error
                self.spool.finish(name, answer)


def _has_the_node() -> bool:
    """Whether Slurm has given all of this machine's processor to this task."""
    given = os.environ.get("SLURM_CPUS_ON_NODE")
    return given is None or int(given) >= (os.cpu_count() or 1)


class Slurm:
    """Episodes in the tasks of a job array, as many at a time as there are workers (by default 4).

    Args:
        folder: on a file system that all machines share, and that no worker sees.
        address: `local` runs the tasks on this machine, without Slurm.
    """

    def __init__(self, folder: Path, address: str | None = None) -> None:
        if address not in (None, "local"):
            raise AttnbenchError(f"--address {address}: for slurm there is only `local`")
        self._folder = folder
        self._address = address

    @contextlib.contextmanager
    def open(self, conditions: Conditions) -> Iterator[Run]:
        """See `Engine`."""
        if self._address is None and shutil.which("sbatch") is None:
            raise AttnbenchError(
                "there is no sbatch here; --address local runs the same tasks without Slurm"
            )
        workers = conditions.workers or _WORKERS
        here = self._address == "local"
        if here and conditions.device == "cuda" and workers > 1:
            raise AttnbenchError("--address local has one GPU for all tasks: use --workers 1")
        threads = conditions.threads or max(1, physical_cores() // (workers if here else 1))
        shared = replace(
            conditions, workers=workers, threads=threads, at_once=workers if here else 1
        )
        with Spool.opened(self._folder) as spool:
            executor = submitit.AutoExecutor(spool.folder / "log", cluster=self._address or "slurm")
            needs = needs_of(shared, threads)
            executor.update_parameters(
                name="attnbench",
                timeout_min=_MINUTES,
                cpus_per_task=needs.cores,
                gpus_per_node=needs.gpus,
                mem_gb=needs.memory_bytes / 2**30,
                slurm_array_parallelism=workers,
            )
            array = Array(executor, Draws(spool, shared), here=here)
            yield partial(_run, spool, array, workers)


@dataclass(frozen=True)
class Array:
    """Begins tasks and ends them.

    Attributes:
        executor: submitit's.
        work: what each task does, called with its name.
        here: whether they are processes of this machine.
    """

    executor: submitit.AutoExecutor
    work: Draws
    here: bool

    def begin(self, names: list[str]) -> dict[str, Any]:
        """A task for each name."""
        with _interrupts_ignored() if self.here else contextlib.nullcontext():
            return dict(zip(names, self.executor.map_array(self.work, names), strict=True))

    def end(self, task: Any) -> None:
        """End a task that has not ended. Its template sees that, and ends what it has started."""
        if not self.here:
            task.cancel(check=False)
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            controller = psutil.Process(int(task.job_id))
            for process in [controller, *controller.children()]:
                process.kill()


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes begun meanwhile ignore Ctrl-C, which is this one's to handle."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _run(spool: Spool, array: Array, workers: int, jobs: Iterable[Job]) -> Generator[Finished]:
    """Have the jobs done by that many tasks, and by others for those that end before there are none."""
    left = {f"{number:08}": job for number, job in enumerate(jobs)}
    for name, job in left.items():
        spool.add(name, job)
    numbers = map(str, itertools.count())
    tasks: dict[str, Any] = {}
    ended_in_vain = 0
    try:
        while left:
            new = list(itertools.islice(numbers, min(workers - len(tasks), spool.waiting())))
            if new:
                tasks.update(array.begin(new))
            time.sleep(_LOOK_EVERY_SECONDS)
            over = [number for number, task in tasks.items() if task.done()]
            for name, answer in spool.finished():
                if isinstance(answer, AttnbenchError):
                    raise answer
                ended_in_vain = 0
                yield Finished(left.pop(name), answer)
            for number in over:
                task = tasks.pop(number)
                spool.put_back(number, left)
                if task.exception() is not None:
                    ended_in_vain += 1
                    if ended_in_vain == _ENDINGS:
                        raise AttnbenchError(_what_it_said(task))
    finally:
        for task in tasks.values():
            array.end(task)


def _what_it_said(task: Any) -> str:
    lines = (task.stderr() or "").strip().splitlines()
    said = f": {lines[-1]}" if lines else ""
    return f"{_ENDINGS} tasks of the job array ended with nothing done{said}"
