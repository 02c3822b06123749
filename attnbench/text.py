"""Text for people: untrusted strings made safe to print, and durations."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


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


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return "did you mean X?" with the known name that is most similar, or an empty text."""
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else ""


def duration(seconds: float) -> str:
    """Return a duration in rounded form, such as `40 s`, `12 min` or `3 h 5 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
