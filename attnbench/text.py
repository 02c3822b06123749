"""Text for people: untrusted strings made safe to print, and durations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

_FRAME = re.compile(r'(?<=File ")[^"\n]+(?=", line \d)')
# Colours and movements of the cursor, which say nothing outside a terminal.
_TERMINAL_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def printable(text: object, limit: int = 1000) -> str:
    """Return a text on one line, without control characters.

    A failure's reason may quote what a submission raised. Escape sequences in it must not reach a
    terminal.

    Args:
        text: a string, or an object to convert to one.
        limit: the number of characters after which the text is cut.
    """
    line = " ".join(str(text).split())
    if not line.isprintable():
        line = "".join(character if character.isprintable() else "�" for character in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def printable_lines(text: str, limit: int = 10_000) -> str:
    """Return a text of several lines, without control characters and without blank lines at its end.

    If a program has overwritten a line, such as a progress bar, the last version is kept.

    Args:
        text: the text.
        limit: the number of characters after which the text is cut.
    """
    lines = []
    # Not `splitlines`, which also breaks lines at characters that terminals do not break at.
    for line in _TERMINAL_SEQUENCE.sub("", text[:limit]).split("\n"):
        last = line.rstrip("\r").rpartition("\r")[2].expandtabs()
        shown = "".join(c if c.isprintable() else "�" for c in last)
        lines.append(shown.rstrip())
    return "\n".join(lines).rstrip() + "…" * (len(text) > limit)


def with_real_paths(traceback: str, folder: Path) -> str:
    """Return a traceback with absolute paths of a submission's files.

    Args:
        traceback: a traceback with paths relative to the submission's folder.
        folder: where the submission lies. Paths of files that are not in it stay as they are.
    """

    def path_of(name: re.Match[str]) -> str:
        path = folder / name[0]
        is_own = ".." not in path.parts and path.is_relative_to(folder) and path.is_file()
        return str(path.absolute()) if is_own else name[0]

    return _FRAME.sub(path_of, traceback)


def failure_text(reason: str, traceback: str, folder: Path | None) -> str:
    """Return why a submission failed: the reason on a line and, below it, the traceback.

    The text is safe to print, whatever the submission has raised.

    Args:
        reason: why it failed.
        traceback: the `detail` or the `traceback` of an `EpisodeResult`.
        folder: where the submission lies, for absolute paths of its files; None for relative ones.
    """
    if folder is not None:
        traceback = with_real_paths(traceback, folder)
    first, lines = printable(reason), printable_lines(traceback).splitlines()
    if lines and lines[-1] == first:
        lines.pop()  # the exception itself, which is the reason
    return "\n".join([first, *lines])


def did_you_mean(name: str, known: Sequence[str], before: str = "") -> str:
    """Return "did you mean X?" with the known name that is most similar.

    Args:
        name: the name that was given.
        known: the names to choose from.
        before: what to put before the question, such as `: `.

    Returns:
        An empty text if no known name is similar.
    """
    near = get_close_matches(name, known, n=1)
    return f"{before}did you mean {near[0]}?" if near else ""


def with_article(noun: str) -> str:
    """Return a noun with its indefinite article, such as `a tuple` or `an int`."""
    return f"{'an' if noun.startswith((*'aeioAEIO', 'nd')) else 'a'} {noun}"


def duration(seconds: float) -> str:
    """Return a duration in rounded form, such as `40 s`, `12 min` or `3 h 5 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
