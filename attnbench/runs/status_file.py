"""The state of each run that writes into a records folder, in a file for other terminals to read."""

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
from attnbench.files import write_atomically
from attnbench.runs.events import EpisodeDone, EpisodesLeftOut, Event, Planned
from attnbench.runs.progress import seconds_left

_FOLDER = ".runs"
_MAX_BYTES = 1 << 20
_WRITE_INTERVAL_SECONDS = 1.0

_Count = Annotated[int, Field(ge=0, le=10**12)]
_Text = Annotated[str, Field(max_length=1000)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskState(_Model):
    """The progress of a run on one task.

    Attributes:
        total: the number of episodes to run.
        done: how many of them have ended.
        failed: how many of these have failed.
    """

    total: _Count
    done: _Count = 0
    failed: _Count = 0


class RunState(_Model):
    """The state of a run, as the run itself reports it.

    Attributes:
        process: the run's process ID on `host`.
        began: when that process started, in seconds since 1970.
        host: the machine's name.
        engine: the engine's name.
        submissions: the submissions' names.
        tasks: the state of each task.
        first_seconds: when the first episode ended, in seconds since 1970; None before that. The
            estimate of the time left starts there.
        updated: when the state last changed, in seconds since 1970.
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
    def total(self) -> TaskState:
        """The sum over all tasks."""
        states = self.tasks.values()
        return TaskState(
            total=sum(state.total for state in states),
            done=sum(state.done for state in states),
            failed=sum(state.failed for state in states),
        )

    @property
    def seconds_left(self) -> float | None:
        """The estimated remaining time; None until two episodes have ended."""
        if self.first_seconds is None:
            return None
        return seconds_left(self.updated - self.first_seconds, self.total.done, self.total.total)

    @property
    def is_alive(self) -> bool | None:
        """Whether the run's process exists; None if it is on another machine."""
        if self.host != socket.gethostname():
            return None
        try:
            # Process IDs are reused, so the start times must agree too.
            return abs(psutil.Process(self.process).create_time() - self.began) < 1.0
        except psutil.NoSuchProcess:
            return False

    def after(self, event: Event, now: float) -> RunState:
        """Return the state after an event.

        Args:
            event: the event.
            now: when it happened, in seconds since 1970.
        """
        match event:
            case Planned():
                tasks = {name: TaskState(total=total) for name, total in event.episodes.items()}
                return self.model_copy(update={"tasks": tasks, "updated": now})
            case EpisodeDone():
                before = self.tasks[event.task]
                failed = before.failed + (event.status == "failed")
                state = TaskState(total=before.total, done=before.done + 1, failed=failed)
                return self.model_copy(
                    update={
                        "tasks": self.tasks | {event.task: state},
                        "first_seconds": now if self.first_seconds is None else self.first_seconds,
                        "updated": now,
                    }
                )
            case EpisodesLeftOut():
                before = self.tasks[event.task]
                state = before.model_copy(update={"total": before.total - event.count})
                return self.model_copy(
                    update={"tasks": self.tasks | {event.task: state}, "updated": now}
                )
            case _:
                return self


class StatusFile:
    """Keeps the state of a run in a file while the run lasts; a context manager.

    Args:
        records: the folder of records that the run writes into.
        engine: the engine's name.
        submissions: the submissions' names.
    """

    def __init__(self, records: Path, engine: str, submissions: Sequence[str]) -> None:
        process = psutil.Process()
        self._folder = records / _FOLDER
        self._path = self._folder / f"{socket.gethostname()}-{process.pid}-{time.time_ns()}.json"
        self._state = RunState(
            process=process.pid,
            began=process.create_time(),
            host=socket.gethostname(),
            engine=engine,
            submissions=tuple(name[:1000] for name in submissions),
            updated=time.time(),
        )
        self._written = 0.0

    def __enter__(self) -> StatusFile:
        runs = list(_read(self._folder))
        for path, state in runs:
            if state.is_alive is False:
                path.unlink(missing_ok=True)
        if all(state.is_alive is False for _, state in runs):
            # This also removes files that a killed run had not finished writing.
            shutil.rmtree(self._folder, ignore_errors=True)
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._folder.rmdir()

    def update(self, event: Event) -> None:
        """Apply an event. The file is written at most once a second."""
        self._state = self._state.after(event, time.time())
        if time.monotonic() - self._written > _WRITE_INTERVAL_SECONDS:
            self._written = time.monotonic()
            with contextlib.suppress(AttnbenchError):  # a full disk must not end a measurement
                write_atomically(self._path, self._state.model_dump_json().encode(), self._folder)


def status(records: Path = Path("records")) -> list[RunState]:
    """Return the states of the evaluations that write into a records folder, oldest first."""
    return sorted((state for _, state in _read(records / _FOLDER)), key=lambda run: run.began)


def _read(folder: Path) -> Iterator[tuple[Path, RunState]]:
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValidationError):
            if path.stat().st_size <= _MAX_BYTES:
                yield path, RunState.model_validate_json(path.read_bytes())
