"""A queue of jobs in a shared folder, through which an engine and its array tasks communicate."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from attnbench.engines.engine import Job
from attnbench.engines.episode_runner import open_runner
from attnbench.errors import AttnbenchError
from attnbench.files import write_atomically
from attnbench.judge.conditions import Conditions

_PREFIX = "slurm-"
_LOCK = "owner.lock"


@dataclass(frozen=True)
class JobQueue:
    """A folder with a file per job. Taking a job moves its file from `todo` to `taken`.

    The result of a job becomes a file in `done`.

    Attributes:
        folder: the folder.
    """

    folder: Path

    @classmethod
    @contextlib.contextmanager
    def create(cls, parent: Path) -> Iterator[JobQueue]:
        """Create a queue that is removed when the context ends.

        Earlier queues whose engine was killed are removed too.

        Args:
            parent: the folder of queues; created if needed.
        """
        parent.mkdir(parents=True, exist_ok=True)
        for folder in parent.glob(f"{_PREFIX}*"):
            if not cls(folder).has_owner():
                shutil.rmtree(folder, ignore_errors=True)
        # It gets its final name only once it is locked: until then, it would seem abandoned.
        unnamed = Path(tempfile.mkdtemp(dir=parent, prefix=f".{_PREFIX}"))
        for name in ("todo", "taken", "done"):
            (unnamed / name).mkdir()
        with FileLock(unnamed / _LOCK):
            queue = cls(unnamed.rename(unnamed.with_name(unnamed.name[1:])))
            try:
                yield queue
            finally:
                shutil.rmtree(queue.folder, ignore_errors=True)
                with contextlib.suppress(OSError):
                    parent.rmdir()

    def has_owner(self) -> bool:
        """Whether the engine is still there. The kernel releases its lock when it ends."""
        if not (self.folder / _LOCK).is_file():
            return False
        try:
            with FileLock(self.folder / _LOCK, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def put(self, name: str, job: Job) -> None:
        """Add a job under a name."""
        write_atomically(self.folder / "todo" / name, pickle.dumps(job), self.folder)

    def waiting(self) -> int:
        """Return the number of jobs that no array task has taken."""
        return len(list((self.folder / "todo").iterdir()))

    def take(self, task: str) -> tuple[str, Job] | None:
        """Take a job for an array task. Return its name and the job, or None if none is left."""
        for path in sorted((self.folder / "todo").iterdir()):
            taken = self.folder / "taken" / f"{path.name}@{task}"
            try:
                path.rename(taken)
                return path.name, pickle.loads(taken.read_bytes())
            except FileNotFoundError:
                continue  # another task has taken it
        return None

    def finish(self, name: str, result: object) -> None:
        """Hand in the result of a job: its outcomes (see `CompletedJob`), or an AttnbenchError."""
        write_atomically(self.folder / "done" / name, pickle.dumps(result), self.folder)

    def results(self) -> Iterator[tuple[str, Any]]:
        """Yield the results that were handed in since the last call, each with its job's name."""
        for path in sorted((self.folder / "done").iterdir()):
            yield path.name, pickle.loads(path.read_bytes())
            path.unlink()

    def put_back(self, task: str, names: Iterable[str]) -> None:
        """Make the jobs that an array task had taken available again.

        Args:
            task: the array task.
            names: the jobs without a result. Those that this task had not taken are left alone.
        """
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (self.folder / "taken" / f"{name}@{task}").rename(self.folder / "todo" / name)


@dataclass(frozen=True)
class QueueConsumer:
    """The program of an array task: judge jobs from a queue until none is left."""

    queue: JobQueue
    conditions: Conditions

    def __call__(self, task: str) -> None:
        """Run as the array task of this name."""
        # On a node that runs other Slurm jobs too, times are contended.
        sharing = max(self.conditions.sharing, 1 if _has_whole_node() else 2)
        with open_runner(replace(self.conditions, sharing=sharing)) as runner:
            while self.queue.has_owner() and (taken := self.queue.take(task)):
                name, job = taken
                try:
                    result: object = runner.judge(job)
                except AttnbenchError as error:
                    result = error
                self.queue.finish(name, result)


def _has_whole_node() -> bool:
    """Whether Slurm has given this task all cores of its machine."""
    cores = os.environ.get("SLURM_CPUS_ON_NODE")
    return cores is None or int(cores) >= (os.cpu_count() or 1)
