"""Text of unknown origin, made safe to print on a terminal."""

from __future__ import annotations


def printable(text: object, limit: int = 1000) -> str:
    """`text` on one line, without control characters, at most `limit` characters long.

    A reason may carry what a submission raised; escape sequences in it must not reach a terminal.
    """
    line = " ".join(str(text).split())
    if not line.isprintable():
        line = "".join(character if character.isprintable() else "�" for character in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"
