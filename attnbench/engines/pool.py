"""A pool of episode runners in other processes or on other machines, some of which may be lost."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Protocol

from attnbench.engines.engine import CompletedJob, Job, Outcomes
from attnbench.errors import AttnbenchError

if TYPE_CHECKING:
    from attnbench.records.record import Identity

# The run fails after this many runners were lost with the same job.
_MAX_ATTEMPTS = 3


class RunnerLost(Exception):
    """The process or machine of a runner has ended."""


class RunnerHandle(Protocol):
    """A handle on an `EpisodeRunner` elsewhere.

    Its methods block. `stop` may be called from another thread.
    """

    def start(self) -> None:
        """Start or restart the runner. Return when it can judge. Raises RunnerLost if stopped."""
        ...

    def judge(self, job: Job) -> Outcomes:
        """See `EpisodeRunner.judge`. Raises RunnerLost as well."""
        ...

    def stop(self) -> None:
        """End the runner at once, with all it started. Calls that wait for it raise RunnerLost."""
        ...


def run_on_pool(runners: Sequence[RunnerHandle], jobs: Iterable[Job]) -> Generator[CompletedJob]:
    """Run jobs on a pool of runners, and yield each job once it has completed.

    A runner that is lost is started again, and its job goes to the next free one. A runner for which
    no job is left is stopped, so that it holds no GPU memory.

    Args:
        runners: the runners of the pool, which are started as they are needed.
        jobs: taken one at a time, as runners become free.

    Raises:
        AttnbenchError: if a job cannot be run at all, or three runners were lost with it.
    """
    pending = _PendingJobs(jobs)
    if not pending.has_more():
        return
    busy: dict[Future[Outcomes | None], tuple[RunnerHandle, Job | None]] = {}
    idle = list(runners)
    with ThreadPoolExecutor(len(runners), thread_name_prefix="runner") as threads:

        def start_idle() -> None:
            busy.update({threads.submit(runner.start): (runner, None) for runner in idle})
            idle.clear()

        try:
            start_idle()
            # A runner that is still starting holds no job. Once no job is left, it is not waited for.
            while pending.has_more() or any(job for _, job in busy.values()):
                done, _ = wait(busy, return_when=FIRST_COMPLETED)
                for future in done:
                    runner, job = busy.pop(future)
                    try:
                        outcomes = future.result()
                    except RunnerLost:
                        if job is not None:
                            pending.give_back(job)
                        # Start idle runners too: the job that came back may need one of them.
                        idle.append(runner)
                        start_idle()
                        continue
                    # Hand out the next job before yielding: the consumer may take its time.
                    if (next_job := pending.take()) is not None:
                        busy[threads.submit(runner.judge, next_job)] = runner, next_job
                    else:
                        runner.stop()
                        idle.append(runner)
                    if job is not None and outcomes is not None:
                        yield CompletedJob(job, outcomes)
        finally:
            # Threads that wait for a runner end only once it is stopped, and the pool waits for them.
            for runner in runners:
                runner.stop()


class _PendingJobs:
    """Jobs to be taken one at a time. Jobs that were given back come first."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = iter(jobs)
        self._first: deque[Job] = deque()
        self._losses: Counter[tuple[Identity, str]] = Counter()

    def has_more(self) -> bool:
        if not self._first:
            self._first.extend(itertools.islice(self._jobs, 1))
        return bool(self._first)

    def take(self) -> Job | None:
        return self._first.popleft() if self.has_more() else None

    def give_back(self, job: Job) -> None:
        """Put a job back. Raises AttnbenchError if that has happened too often."""
        identity = job.episodes[0].identity
        key = identity, job.target
        self._losses[key] += 1
        if self._losses[key] == _MAX_ATTEMPTS:
            raise AttnbenchError(
                f"the process that judged {identity.submission} on {identity.task}, "
                f"{job.target}, ended {_MAX_ATTEMPTS} times. Finished episodes are kept. If memory "
                "ran out, use fewer --workers to leave more for each."
            )
        self._first.appendleft(job)
