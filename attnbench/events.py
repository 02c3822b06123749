"""What happens while an evaluation runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Planned:
    """How many episodes are still to run, and the records that were there already."""

    episodes: int
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
