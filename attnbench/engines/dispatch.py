"""Keeping several stations busy, here or on other machines, and doing without those that are lost."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Protocol

from attnbench.engines.engine import Finished, Job
from attnbench.errors import AttnbenchError

if TYPE_CHECKING:
    from attnbench.records.record import Identity
    from attnbench.records.store import Measured

# A job that so many seats were lost with is not given to another.
_ATTEMPTS = 3


class SeatLost(Exception):
    """The process, or the machine, that a seat stands for has ended."""


class Seat(Protocol):
    """A place for a station elsewhere. Its methods block; `stop` may be called from another thread."""

    def start(self) -> None:
        """Begin, or begin again; to return when it can judge. Raises SeatLost where it was stopped."""
        ...

    def judge(self, job: Job) -> Measured:
        """As `Station.judge`. Raises SeatLost as well."""
        ...

    def stop(self) -> None:
        """End it at once, with all it started; what waits for it raises SeatLost."""
        ...


def dispatch(seats: Sequence[Seat], jobs: Iterable[Job]) -> Generator[Finished]:
    """Give each seat a job, and another when it has ended, until there are none; yield as they end.

    A seat that is lost is begun again, and its job goes to the next that is free. A seat that nothing
    is left for is stopped, so that it holds no memory of a GPU.

    Raises:
        AttnbenchError: where a job cannot be done at all, or three seats were lost with it.
    """
    upcoming = _Upcoming(jobs)
    if not upcoming.has_more():
        return
    busy: dict[Future[Measured | None], tuple[Seat, Job | None]] = {}
    resting = list(seats)
    with ThreadPoolExecutor(len(seats), thread_name_prefix="seat") as pool:

        def wake_all() -> None:
            busy.update({pool.submit(seat.start): (seat, None) for seat in resting})
            resting.clear()

        try:
            wake_all()
            while upcoming.has_more() or any(job for _, job in busy.values()):
                done, _ = wait(busy, return_when=FIRST_COMPLETED)
                for future in done:
                    seat, job = busy.pop(future)
                    try:
                        measured = future.result()
                    except SeatLost:
                        if job is not None:
                            upcoming.give_back(job)
                        resting.append(seat)
                        wake_all()
                        continue
                    if (another := upcoming.take()) is not None:
                        busy[pool.submit(seat.judge, another)] = seat, another
                    else:
                        seat.stop()
                        resting.append(seat)
                    if job is not None and measured is not None:
                        yield Finished(job, measured)
        finally:
            for seat in seats:
                seat.stop()


class _Upcoming:
    """Jobs as they are taken, one at a time, those that come back first."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs = iter(jobs)
        self._first: deque[Job] = deque()
        self._lost: Counter[tuple[Identity, str]] = Counter()

    def has_more(self) -> bool:
        if not self._first:
            self._first.extend(itertools.islice(self._jobs, 1))
        return bool(self._first)

    def take(self) -> Job | None:
        return self._first.popleft() if self.has_more() else None

    def give_back(self, job: Job) -> None:
        """To be taken again. Raises AttnbenchError where that has been done too often."""
        what = job.identity, job.target
        self._lost[what] += 1
        if self._lost[what] == _ATTEMPTS:
            raise AttnbenchError(
                f"the process that judged {job.identity.submission} on {job.identity.task}, "
                f"{job.target}, ended {_ATTEMPTS} times; what was measured is kept. Where memory "
                "ran out, fewer --workers leave more for each."
            )
        self._first.appendleft(job)
