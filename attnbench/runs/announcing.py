"""How far the runs into a records folder are, for another terminal to ask."""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attnbench.errors import AttnbenchError
from attnbench.records.store import write_atomically
from attnbench.runs.events import EpisodeDone, Event, Planned, seconds_left

_FOLDER = ".runs"
_LIMIT = 1 << 20
_WRITE_EVERY_SECONDS = 1.0

_Count = Annotated[int, Field(ge=0, le=10**12)]
_Text = Annotated[str, Field(max_length=1000)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskState(_Model):
    """How many episodes of a task a run has to do, has done, and how many of these failed."""

    total: _Count
    done: _Count = 0
    failed: _Count = 0


class RunState(_Model):
    """A run as it says of itself.

    Attributes:
        process, began: its number on `host`, and when that process began (seconds since 1970).
        submissions: their names.
        first_seconds: when its first episode ended, None before; to tell how long one takes.
        updated: when this was written.
    """

    process: int
    began: float
    host: _Text
    engine: _Text
    submissions: tuple[_Text, ...]
    tasks: dict[_Text, TaskState] = {}
    first_seconds: float | None = None
    updated: float

    @property
    def whole(self) -> TaskState:
        """All tasks together."""
        states = self.tasks.values()
        return TaskState(
            total=sum(each.total for each in states),
            done=sum(each.done for each in states),
            failed=sum(each.failed for each in states),
        )

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at the rate so far; None before two episodes have ended."""
        if self.first_seconds is None:
            return None
        return seconds_left(self.updated - self.first_seconds, self.whole.done, self.whole.total)

    @property
    def is_alive(self) -> bool | None:
        """Whether the run is still there; None where it is on another machine, which cannot be seen."""
        if self.host != socket.gethostname():
            return None
        try:
            return abs(psutil.Process(self.process).create_time() - self.began) < 1.0
        except psutil.NoSuchProcess:
            return False

    def after(self, event: Event, now: float) -> RunState:
        """The state when something has happened."""
        match event:
            case Planned():
                tasks = {name: TaskState(total=total) for name, total in event.episodes.items()}
                return self.model_copy(update={"tasks": tasks, "updated": now})
            case EpisodeDone():
                was = self.tasks[event.task]
                failed = was.failed + (event.status == "failed")
                state = TaskState(total=was.total, done=was.done + 1, failed=failed)
                return self.model_copy(
                    update={
                        "tasks": self.tasks | {event.task: state},
                        "first_seconds": now if self.first_seconds is None else self.first_seconds,
                        "updated": now,
                    }
                )
            case _:
                return self


class Announcement:
    """Keeps a run's state in a file while it runs: `with Announcement(…) as said: said.hear(event)`."""

    def __init__(self, records: Path, engine: str, submissions: Sequence[str]) -> None:
        own = psutil.Process()
        self._folder = records / _FOLDER
        self._path = self._folder / f"{socket.gethostname()}-{own.pid}-{time.time_ns()}.json"
        self._state = RunState(
            process=own.pid,
            began=own.create_time(),
            host=socket.gethostname(),
            engine=engine,
            submissions=tuple(name[:1000] for name in submissions),
            updated=time.time(),
        )
        self._written = 0.0

    def __enter__(self) -> Announcement:
        runs = list(_read(self._folder))
        for path, state in runs:
            if state.is_alive is False:
                path.unlink(missing_ok=True)
        if all(state.is_alive is False for _, state in runs):
            shutil.rmtree(self._folder, ignore_errors=True)  # and what they were writing
        return self

    def __exit__(self, *ended: object) -> None:
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def hear(self, event: Event) -> None:
        """Take note of an event; the file is written once a second at most."""
        self._state = self._state.after(event, time.time())
        if time.monotonic() - self._written > _WRITE_EVERY_SECONDS:
            self._written = time.monotonic()
            with contextlib.suppress(AttnbenchError):  # who measures is not to end for this
                write_atomically(self._path, self._state.model_dump_json().encode(), self._folder)


def status(records: Path = Path("records")) -> list[RunState]:
    """What the evaluations that write into a records folder say of themselves, the oldest first."""
    return sorted((state for _, state in _read(records / _FOLDER)), key=lambda run: run.began)


def _read(folder: Path) -> Iterator[tuple[Path, RunState]]:
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValidationError):
            if path.stat().st_size <= _LIMIT:
                yield path, RunState.model_validate_json(path.read_bytes())
