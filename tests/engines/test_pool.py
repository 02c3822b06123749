"""A pool of runners, some of which are lost: each job completes exactly once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.engines.engine import Job, JobEpisode, Outcomes
from attnbench.engines.pool import RunnerLost, run_on_pool
from attnbench.errors import AttnbenchError


@dataclass
class FakeRunner:
    """Judges a job at once. It is lost with those calls, counted from 0, that are in `losses`."""

    losses: frozenset[int] = frozenset()
    judged: list[str] = field(default_factory=list)
    calls: int = 0
    running: bool = False

    def start(self) -> None:
        self.running = True

    def judge(self, job: Job) -> Outcomes:
        assert self.running
        self.calls += 1
        if self.calls - 1 in self.losses:
            self.running = False
            raise RunnerLost
        self.judged.append(job.target)
        return cast(Outcomes, job.target)

    def stop(self) -> None:
        self.running = False


@dataclass
class NeverReady(FakeRunner):
    """Waits for a machine that never comes, until it is stopped."""

    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self.stopped.wait(60)
        raise RunnerLost

    def stop(self) -> None:
        self.stopped.set()


@dataclass(frozen=True)
class FakeJob:
    """The part of a job that a pool reads."""

    target: str
    episodes: tuple[JobEpisode, ...] = (JobEpisode(None, None),)  # type: ignore[arg-type]


@pytest.fixture
def make_jobs(job: Job) -> Callable[[int], list[Job]]:
    """A function that makes so many jobs, with the targets "0", "1" and so on."""
    return lambda count: [replace(job, target=str(number)) for number in range(count)]


# A job is given up after three losses. With two losses in all, none is.
unreliable = st.lists(st.frozensets(st.integers(0, 9), max_size=1), min_size=1, max_size=2)
reliable = st.lists(st.just(frozenset[int]()), max_size=3)


@given(unreliable_losses=unreliable, reliable_losses=reliable, count=st.integers(0, 12))
def test_every_job_completes_once_whichever_runners_are_lost(
    unreliable_losses: list[frozenset[int]], reliable_losses: list[frozenset[int]], count: int
) -> None:
    runners = [FakeRunner(losses) for losses in [*unreliable_losses, *reliable_losses]]
    jobs = [cast(Job, FakeJob(str(number))) for number in range(count)]
    completed = list(run_on_pool(runners, jobs))
    assert sorted(int(done.job.target) for done in completed) == list(range(count))
    assert all(cast(str, done.outcomes) == done.job.target for done in completed)
    judged = [int(target) for runner in runners for target in runner.judged]
    assert sorted(judged) == list(range(count))
    assert not any(runner.running for runner in runners)  # a running one would hold GPU memory


def test_job_is_given_up_after_three_runners_were_lost_with_it(
    make_jobs: Callable[[int], list[Job]],
) -> None:
    runner = FakeRunner(losses=frozenset({1, 2, 3}))
    completed = run_on_pool([runner], make_jobs(3))
    assert next(completed).job.target == "0"
    with pytest.raises(AttnbenchError, match="ended 3 times"):
        next(completed)
    assert not runner.running


def test_runner_that_never_starts_delays_no_job(make_jobs: Callable[[int], list[Job]]) -> None:
    missing = NeverReady()
    started = time.monotonic()
    lost_once = FakeRunner(losses=frozenset({2}))
    completed = list(run_on_pool([missing, lost_once], make_jobs(5)))
    assert len(completed) == 5 and not missing.judged
    assert time.monotonic() - started < 30


def test_jobs_are_taken_only_as_runners_become_free(make_jobs: Callable[[int], list[Job]]) -> None:
    taken = []

    def jobs() -> Iterator[Job]:
        for job in make_jobs(100):
            taken.append(job)
            yield job

    completed = run_on_pool([FakeRunner(), FakeRunner()], jobs())
    next(completed)
    assert len(taken) <= 4
    completed.close()
