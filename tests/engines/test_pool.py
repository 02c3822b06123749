"""Jobs given to seats, some of which are lost: each is done, and none twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.engines.pool import RunnerLost, dispatch
from attnbench.engines.engine import Job
from attnbench.errors import AttnbenchError
from attnbench.records.record import Record
from attnbench.records.store import EpisodeOutcome


@dataclass
class FakeSeat:
    """Judges at once; is lost at those of its judgements, counted from 0, that are in `losses`."""

    losses: frozenset[int] = frozenset()
    judged: list[str] = field(default_factory=list)
    count: int = 0
    running: bool = False

    def start(self) -> None:
        self.running = True

    def judge(self, job: Job) -> EpisodeOutcome:
        assert self.running
        self.count += 1
        if self.count - 1 in self.losses:
            self.running = False
            raise RunnerLost
        self.judged.append(job.target)
        return cast(EpisodeOutcome, job.target)

    def stop(self) -> None:
        self.running = False


@dataclass
class NeverReady(FakeSeat):
    """Waits for a machine that does not come, until it is stopped."""

    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self.stopped.wait(60)
        raise RunnerLost

    def stop(self) -> None:
        self.stopped.set()


@pytest.fixture
def jobs(make_record: Callable[..., Record]) -> Callable[[int], list[Job]]:
    template = Job(
        identity=make_record().identity,
        submission=None,  # type: ignore[arg-type]
        track=None,  # type: ignore[arg-type]
        target="",
        timeout=1.0,
        cold=False,
        modules=(),
    )
    return lambda count: [replace(template, target=str(n)) for n in range(count)]


# A job is given up when it has met three losses: fewer in all cannot make one meet three.
few_losses = st.lists(st.frozensets(st.integers(0, 9), max_size=1), min_size=1, max_size=2)
no_more_than_that = st.lists(st.just(frozenset[int]()), max_size=3)


@given(losses=few_losses, whole=no_more_than_that, count=st.integers(0, 12))
def test_every_job_is_done_once_whichever_seats_are_lost(
    losses: list[frozenset[int]], whole: list[frozenset[int]], count: int
) -> None:
    seats = [FakeSeat(each) for each in [*losses, *whole]]
    made = [cast(Job, FakeJob(str(n))) for n in range(count)]
    finished = list(dispatch(seats, made))
    assert sorted(int(each.job.target) for each in finished) == list(range(count))
    assert sorted(int(target) for seat in seats for target in seat.judged) == list(range(count))
    assert not any(seat.running for seat in seats)  # none holds a GPU's memory


@dataclass(frozen=True)
class FakeJob:
    target: str
    identity: str = "a record's"


def test_a_job_that_seats_are_lost_with_is_given_up(jobs: Callable[[int], list[Job]]) -> None:
    seat = FakeSeat(losses=frozenset({1, 2, 3}))
    done = dispatch([seat], jobs(3))
    assert next(done).job.target == "0"
    with pytest.raises(AttnbenchError, match="ended 3 times"):
        next(done)
    assert not seat.running


def test_a_seat_that_is_not_to_be_had_keeps_nobody_waiting(
    jobs: Callable[[int], list[Job]],
) -> None:
    missing = NeverReady()
    started = time.monotonic()
    finished = list(dispatch([missing, FakeSeat(losses=frozenset({2}))], jobs(5)))
    assert len(finished) == 5 and not missing.judged
    assert time.monotonic() - started < 30


def test_jobs_are_taken_as_there_is_room(jobs: Callable[[int], list[Job]]) -> None:
    taken = []

    def lazily() -> object:
        for job in jobs(100):
            taken.append(job)
            yield job

    finished = dispatch([FakeSeat(), FakeSeat()], lazily())  # type: ignore[arg-type]
    next(finished)
    assert len(taken) <= 4
    finished.close()
