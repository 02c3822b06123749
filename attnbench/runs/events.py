"""Events of an evaluation while it runs, for progress displays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Planned:
    """The run starts.

    Attributes:
        episodes: the number of episodes to run, by task.
        reused: records that exist already and are used as they are.
    """

    episodes: Mapping[str, int]
    reused: tuple[Path, ...]


@dataclass(frozen=True)
class EpisodeStarted:
    """The images of an episode are being prepared. Decoding or filtering them may take a while."""

    submission: str
    task: str
    target: str


@dataclass(frozen=True)
class EpisodeDone:
    """An episode has ended. It is number `done` of `total`."""

    submission: str
    task: str
    target: str
    status: str
    reason: str
    done: int
    total: int


@dataclass(frozen=True)
class EpisodesLeftOut:
    """The last `count` episodes of a record do not run, because the first two failed alike."""

    submission: str
    task: str
    count: int


@dataclass(frozen=True)
class RecordWritten:
    """A record is complete and on disk."""

    path: Path


@dataclass(frozen=True)
class Noted:
    """Something the user should know, such as duplicate pictures or an option without effect."""

    text: str


Event = Planned | Noted | EpisodeStarted | EpisodeDone | EpisodesLeftOut | RecordWritten
