"""How far an evaluation is: bars on a terminal, plain lines in a log, JSON for machines."""

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

from attnbench.cli.text import duration, printable
from attnbench.runs.events import (
    EpisodeDone,
    EpisodeStarted,
    Event,
    Planned,
    RecordWritten,
    seconds_left,
)


@contextlib.contextmanager
def display(how: str, stream: TextIO) -> Iterator[Callable[[Event], None]]:
    """What shows the events of an evaluation on a stream, one call for each.

    Args:
        how: `bars`, `lines`, `json`, or `auto` for bars where the stream is a terminal, else lines.
        stream: stderr.
    """
    if how == "json":
        yield functools.partial(_show_as_json, stream)
    elif how == "bars" or (how == "auto" and stream.isatty()):
        bars = Bars(stream)
        with bars.progress:
            yield bars.show
    else:
        yield Lines(stream).show


class Lines:
    """A line for each episode, with the time left and the failures so far."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._clock = _Clock()

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Planned() if event.reused:
                print(_reused(event), file=self._stream, flush=True)
            case EpisodeDone():
                self._clock.tick(event)
                far = f"[{event.done}/{event.total}{self._clock.so_far}]"
                print(f"{far} {_episode(event)}: {_came_of(event)}", file=self._stream, flush=True)
            case _:
                pass  # where the records are stands under the table


def _show_as_json(stream: TextIO, event: Event) -> None:
    about = {"event": _KINDS[type(event)], "time": time.time(), **asdict(event)}
    print(json.dumps(about, default=str), file=stream, flush=True)


_KINDS = {
    Planned: "planned",
    EpisodeStarted: "episode started",
    EpisodeDone: "episode done",
    RecordWritten: "record written",
}


class Bars:
    """A bar for each task and one for all, with the time left; failures stand above them.

    Attributes:
        progress: rich's, a context manager within which the bars are on the screen.
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

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Planned():
                if event.reused:
                    self._print(_reused(event))
                several = len(event.episodes) > 1
                totals = {**event.episodes} | (
                    {_ALL: sum(event.episodes.values())} if several else {}
                )
                self._bars = {
                    name: self.progress.add_task(printable(name, 40), total=total, failures="")
                    for name, total in totals.items()
                }
            case EpisodeStarted() if event.task in self._bars:
                at = printable(f"{event.task}: {event.submission}, {event.target}", 60)
                self.progress.update(self._bars[event.task], description=at)
            case EpisodeDone():
                if event.status != "ok":
                    far = f"[{event.done}/{event.total}]"
                    self._print(f"{far} {_episode(event)}: {_came_of(event)}")
                for name in (event.task, _ALL):
                    self._failed[name] += event.status == "failed"
                    if name in self._bars:
                        failures = f"{self._failed[name]} failed" if self._failed[name] else ""
                        self.progress.update(self._bars[name], advance=1, failures=failures)
            case _:
                pass

    def _print(self, text: str) -> None:
        self.progress.console.print(text, markup=False, highlight=False)


_ALL = "all tasks"


class _Clock:
    """What a log says of time left and failures."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._failed = 0
        self.so_far = ""

    def tick(self, event: EpisodeDone) -> None:
        self._failed += event.status == "failed"
        now = time.monotonic()
        first = self._first = now if self._first is None else self._first
        parts = []
        left = seconds_left(now - first, event.done, event.total)
        if left is not None and event.done < event.total:
            parts.append(f"{duration(left)} left")
        if self._failed:
            parts.append(f"{self._failed} failed")
        self.so_far = "".join(f", {part}" for part in parts)


def _reused(event: Planned) -> str:
    number = len(event.reused)
    return (
        f"{number} {'record is' if number == 1 else 'records are'} already there and "
        "used as they are (--fresh runs them again)"
    )


def _episode(event: EpisodeStarted | EpisodeDone) -> str:
    return printable(f"{event.submission}, {event.task}, {event.target}", 60)


def _came_of(event: EpisodeDone) -> str:
    return "ok" if event.status == "ok" else f"{event.status}: {printable(event.reason, 200)}"
