"""How far a run is, and how long it may still take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.runs.events import EpisodeDone, EpisodesLeftOut, Event, Planned

if TYPE_CHECKING:
    from attnbench.records.record import Identity


def seconds_left(since_first: float, done: int, total: int) -> float | None:
    """Estimate the remaining time from the rate so far. None until two episodes have ended.

    Args:
        since_first: seconds since the first episode ended. Earlier time includes the start-up.
        done: the number of episodes that have ended.
        total: the number of episodes.
    """
    return since_first / (done - 1) * (total - done) if done > 1 else None


class Progress:
    """Counts the episodes of a run as they end, and reports an event for each.

    Args:
        identities: the identity of the record of each episode to run, once per episode.
        reused: records that exist already.
        report: called with each event.

    Attributes:
        report: the function that is called with each event.
    """

    def __init__(
        self,
        identities: Iterable[Identity],
        reused: Iterable[Path],
        report: Callable[[Event], None],
    ) -> None:
        by_task = Counter(identity.task for identity in identities)
        self.report = report
        self._total = by_task.total()
        self._done = 0
        report(Planned(dict(by_task), tuple(reused)))

    def episodes_left_out(self, identity: Identity, count: int) -> None:
        """Take off and report episodes of a record that will not run."""
        self._total -= count
        self.report(EpisodesLeftOut(identity.submission, identity.task, count))

    def episode_ended(self, identity: Identity, target: str, status: str, reason: str) -> None:
        """Count an episode and report it."""
        self._done += 1
        self.report(
            EpisodeDone(
                submission=identity.submission,
                task=identity.task,
                target=target,
                status=status,
                reason=reason,
                done=self._done,
                total=self._total,
            )
        )
