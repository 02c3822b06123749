"""How a worker describes a failure of the submission."""

from __future__ import annotations

import bdb
import sys
from collections.abc import Iterator
from pathlib import Path
from traceback import FrameSummary, TracebackException

import torch

# The most characters of a detail and of a traceback. Longer ones are cut in the middle, because the
# first frames and the exception itself say most.
_MAX_DETAIL, _MAX_TRACEBACK = 4_000, 9_000
# What `input()` raises where standard input is empty. Other functions raise EOFError too.
_INPUT_ERROR = "EOF when reading a line"


class ContractViolation(Exception):
    """The submission has returned something that the contract does not allow."""


def describe_failure(error: BaseException, source: Path) -> dict[str, str]:
    """Return a one-line `reason`, a `detail` and a `traceback`.

    The detail holds the exception, with its line breaks, and the frames of the submission's own files.
    The traceback holds all frames. In both, paths of the submission's files are relative to its
    folder, since this process does not know where that folder lies. Paths of library files are
    relative to the folder that they are imported from, after `…/`.

    Args:
        error: the exception that the submission raised. Converting it to a string may raise too.
        source: the folder with this worker's copy of the submission.
    """
    reason = _reason_of(error)[:1000]
    if isinstance(error, ContractViolation):
        return {"reason": reason, "detail": "", "traceback": ""}
    return {
        "reason": reason,
        "detail": _cut(_format(error, source, own_frames_only=True), _MAX_DETAIL),
        "traceback": _cut(_format(error, source, own_frames_only=False), _MAX_TRACEBACK),
    }


def _reason_of(error: BaseException) -> str:
    text = _text_of(error)
    if isinstance(error, ContractViolation):
        return text
    if isinstance(error, SystemExit):
        return f"the submission called sys.exit({error.code!r})"
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "the submission ran out of memory"
    if isinstance(error, bdb.BdbQuit):
        return _needs_terminal("breakpoint()")
    if isinstance(error, EOFError) and text == _INPUT_ERROR:
        return _needs_terminal("input()")
    return f"{type(error).__name__}: {text}".splitlines()[0]


def _needs_terminal(call: str) -> str:
    return (
        f"`{call}` needs a terminal, which a worker does not have; run `attnbench try SUBMISSION`"
    )


def _text_of(error: BaseException) -> str:
    try:
        return str(error).strip() or "no message"
    except Exception:
        return "its message cannot be read"


def _format(error: BaseException, source: Path, *, own_frames_only: bool) -> str:
    """Return the traceback as Python prints it, or an empty text if it cannot be formatted."""
    try:
        described = TracebackException.from_exception(error, compact=True)
        for part in _parts_of(described):
            frames = [
                frame for frame in part.stack if not own_frames_only or _is_own(frame, source)
            ]
            for frame in frames:
                frame.filename = _short_name(frame.filename, source)
            part.stack[:] = frames
            if not frames:
                part.stack = None  # type: ignore[assignment]  # leaves out the heading too
            if getattr(part, "filename", None):
                part.filename = _short_name(part.filename, source)  # of a SyntaxError
        return "".join(described.format()).rstrip()
    except Exception:
        return ""


def _parts_of(described: TracebackException) -> Iterator[TracebackException]:
    """Yield an exception, its causes, and the members of exception groups, each once."""
    pending, seen = [described], set[int]()
    while pending:
        part = pending.pop()
        if id(part) not in seen:
            seen.add(id(part))
            yield part
            linked = [part.__cause__, part.__context__, *(part.exceptions or ())]
            pending += [other for other in linked if other is not None]


def _is_own(frame: FrameSummary, source: Path) -> bool:
    return Path(frame.filename).is_relative_to(source)


def _short_name(file: str, source: Path) -> str:
    path = Path(file)
    if path.is_relative_to(source):
        return str(path.relative_to(source))
    for folder in sorted(filter(None, sys.path), key=len, reverse=True):
        if path.is_relative_to(folder):
            return f"…/{path.relative_to(folder)}"
    return file


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n…\n{text[-half:]}"
