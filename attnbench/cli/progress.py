"""The progress of an evaluation: bars on a terminal, lines in a log, or JSON for programs."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from attnbench.runs.events import (
    EpisodeDone,
    EpisodesLeftOut,
    EpisodeStarted,
    Event,
    Noted,
    Planned,
    RecordWritten,
)
from attnbench.runs.progress import seconds_left
from attnbench.text import duration, printable
from attnbench.vocabulary import ProgressStyle


@contextlib.contextmanager
def display(style: ProgressStyle, stream: TextIO) -> Iterator[Callable[[Event], None]]:
    """Yield a function that shows an event of an evaluation.

    Args:
        style: `bars`, `lines`, `json`, or `auto` for bars on a terminal and lines elsewhere.
        stream: where to show it, usually stderr.
    """
    if style == "json":
        yield functools.partial(_show_as_json, stream)
    elif style == "bars" or (style == "auto" and stream.isatty()):
        bars = Bars(stream)
        with bars.progress:
            yield bars.show
    else:
        yield Lines(stream).show


class Lines:
    """A line per episode, with the time left and the number of failures so far.

    Args:
        stream: where to print the lines.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._counter = _Counter()

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Planned() if event.reused:
                print(_reused(event), file=self._stream, flush=True)
            case Noted():
                print(_note(event), file=self._stream, flush=True)
            case EpisodeDone():
                self._counter.count(event)
                count = f"[{event.done}/{event.total}{self._counter.summary}]"
                line = f"{count} {_episode(event)}: {_outcome(event)}"
                print(line, file=self._stream, flush=True)
            case EpisodesLeftOut():
                print(_left_out(event), file=self._stream, flush=True)
            case _:
                pass  # the paths of records are printed after the table


def _show_as_json(stream: TextIO, event: Event) -> None:
    fields = {"event": _KINDS[type(event)], "time": time.time(), **asdict(event)}
    print(json.dumps(fields, default=str), file=stream, flush=True)


_KINDS = {
    Planned: "planned",
    Noted: "noted",
    EpisodeStarted: "episode started",
    EpisodeDone: "episode done",
    EpisodesLeftOut: "episodes left out",
    RecordWritten: "record written",
}


class Bars:
    """A bar per task and one for all tasks, with the time left. Failures are printed above them.

    Args:
        stream: where to draw the bars.

    Attributes:
        progress: rich's context manager; the bars are on the screen while it is entered.
    """

    def __init__(self, stream: TextIO) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[failures]}", style="red", markup=False),
            console=Console(file=stream),
            transient=True,
        )
        self._bars: dict[str, TaskID] = {}
        self._failed: Counter[str] = Counter()
        self._loading = self.progress.add_task(_LOADING, total=None, failures="")

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Planned():
                self.progress.update(self._loading, visible=False)
                if event.reused:
                    self._print(_reused(event))
                has_total = len(event.episodes) > 1
                totals = {**event.episodes} | (
                    {_ALL: sum(event.episodes.values())} if has_total else {}
                )
                self._bars = {
                    name: self.progress.add_task(printable(name, 40), total=total, failures="")
                    for name, total in totals.items()
                }
            case Noted():
                self._print(_note(event))
            case EpisodeStarted() if event.task in self._bars:
                episode = printable(f"{event.task}: {event.submission}, {event.target}", 60)
                self.progress.update(self._bars[event.task], description=episode)
            case EpisodeDone():
                if event.status != "ok":
                    count = f"[{event.done}/{event.total}]"
                    self._print(f"{count} {_episode(event)}: {_outcome(event)}")
                for name in (event.task, _ALL):
                    self._failed[name] += event.status == "failed"
                    if name in self._bars:
                        failures = f"{self._failed[name]} failed" if self._failed[name] else ""
                        self.progress.update(self._bars[name], advance=1, failures=failures)
            case EpisodesLeftOut():
                self._print(_left_out(event))
                for name in (event.task, _ALL):
                    if name in self._bars:
                        self._shorten(self._bars[name], event.count)
            case _:
                pass

    def _shorten(self, bar: TaskID, count: int) -> None:
        (total,) = (task.total for task in self.progress.tasks if task.id == bar)
        self.progress.update(bar, total=None if total is None else total - count)

    def _print(self, text: str) -> None:
        self.progress.console.print(text, markup=False, highlight=False)


_ALL = "all tasks"
_LOADING = "loading networks and data"


class _Counter:
    """Tracks the time left and the failures, for lines in a log."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._failed = 0
        self.summary = ""

    def count(self, event: EpisodeDone) -> None:
        self._failed += event.status == "failed"
        now = time.monotonic()
        first = self._first = now if self._first is None else self._first
        parts = []
        left = seconds_left(now - first, event.done, event.total)
        if left is not None and event.done < event.total:
            parts.append(f"{duration(left)} left")
        if self._failed:
            parts.append(f"{self._failed} failed")
        self.summary = "".join(f", {part}" for part in parts)


def _reused(event: Planned) -> str:
    number = len(event.reused)
    return f"reusing {number} existing record{'s' * (number != 1)} (--fresh runs them again)"


def _note(event: Noted) -> str:
    return f"note: {printable(event.text)}"


def _left_out(event: EpisodesLeftOut) -> str:
    name = printable(f"{event.submission}, {event.task}", 60)
    left_out = f"{event.count} target{'s' * (event.count != 1)} not run (--keep-going runs them)"
    return f"{name}: the same failure on the first 2 targets; {left_out}"


def _episode(event: EpisodeStarted | EpisodeDone) -> str:
    return printable(f"{event.submission}, {event.task}, {event.target}", 60)


def _outcome(event: EpisodeDone) -> str:
    return "ok" if event.status == "ok" else f"{event.status}: {printable(event.reason, 200)}"
