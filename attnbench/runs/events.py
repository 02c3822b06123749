"""What happens while an evaluation runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnbench.records.record import EpisodeResult, Identity


@dataclass(frozen=True)
class Planned:
    """How many episodes are still to run, by task, and the records that were there already."""

    episodes: Mapping[str, int]
    reused: tuple[Path, ...]


@dataclass(frozen=True)
class EpisodeStarted:
    """The images of an episode are being prepared; decoding or filtering them may take a while."""

    submission: str
    task: str
    target: str


@dataclass(frozen=True)
class EpisodeDone:
    """One episode has ended; `done` of `total` so far."""

    submission: str
    task: str
    target: str
    status: str
    reason: str
    done: int
    total: int


@dataclass(frozen=True)
class RecordWritten:
    """A record is complete and on disk."""

    path: Path


Event = Planned | EpisodeStarted | EpisodeDone | RecordWritten


def seconds_left(since_first: float, done: int, total: int) -> float | None:
    """How long the rest takes at the rate so far; None before two episodes have ended.

    Args:
        since_first: seconds since the first episode ended: what came before it was starting up.
        done, total: episodes.
    """
    return since_first / (done - 1) * (total - done) if done > 1 else None


class Progress:
    """Counts the episodes of a run as they end, and tells of each.

    Args:
        identities: of the records that the episodes are for, each as often as it has episodes to run.
        reused: the records that were there already.
        tell: told what happens.
    """

    def __init__(
        self,
        identities: Iterable[Identity],
        reused: Iterable[Path],
        tell: Callable[[Event], None],
    ) -> None:
        by_task = Counter(identity.task for identity in identities)
        self.tell = tell
        self._total = by_task.total()
        self._done = 0
        tell(Planned(dict(by_task), tuple(reused)))

    def ended(self, identity: Identity, result: EpisodeResult) -> None:
        """One more has ended."""
        self._done += 1
        self.tell(
            EpisodeDone(
                submission=identity.submission,
                task=identity.task,
                target=result.target,
                status=result.status,
                reason=result.reason,
                done=self._done,
                total=self._total,
            )
        )
