"""How far an evaluation is: a bar with the time left on a terminal, plain lines in a log."""

from __future__ import annotations

from types import TracebackType
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

from attnbench.cli.text import printable
from attnbench.events import EpisodeDone, EpisodeStarted, Event, Planned


class EvaluationProgress:
    """Shows the events of an evaluation on a stream, which is stderr; use as a context manager."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: Progress | None = None
        self._bar_task: TaskID | None = None
        if stream.isatty():
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(file=stream),
                transient=True,
            )

    def __enter__(self) -> EvaluationProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def on_event(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Planned():
                self._planned(event)
            case EpisodeStarted():
                self._episode_started(event)
            case EpisodeDone():
                self._episode_done(event)
            case _:
                pass  # where the records are stands under the table

    def _planned(self, event: Planned) -> None:
        if event.reused:
            number = len(event.reused)
            self._line(
                f"{number} {'record is' if number == 1 else 'records are'} already there and "
                "used as they are (--fresh runs them again)"
            )
        if self._bar is not None and event.episodes:
            self._bar_task = self._bar.add_task("starting", total=event.episodes)

    def _episode_started(self, event: EpisodeStarted) -> None:
        if self._bar is not None and self._bar_task is not None:
            self._bar.update(self._bar_task, description=_episode(event))

    def _episode_done(self, event: EpisodeDone) -> None:
        what = _episode(event)
        if event.status != "ok":
            reason = printable(event.reason, 200)
            self._line(f"[{event.done}/{event.total}] {what}: {event.status}: {reason}")
        elif self._bar is None:
            self._line(f"[{event.done}/{event.total}] {what}: ok")
        if self._bar is not None and self._bar_task is not None:
            self._bar.update(self._bar_task, completed=event.done, total=event.total)

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self._stream, flush=True)


def _episode(event: EpisodeStarted | EpisodeDone) -> str:
    return printable(f"{event.submission}, {event.task}, {event.target}", 60)
