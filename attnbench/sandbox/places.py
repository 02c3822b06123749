"""Where in the submission's files something is, as in `submission.py:12: `, to begin a message with."""

from __future__ import annotations

import linecache
import traceback
from pathlib import Path
from types import CodeType, FunctionType

from torch import nn


def place_of_error(error: BaseException, source: Path) -> str:
    """Return the innermost line of the submission that an exception passed; empty if none.

    Args:
        error: the exception. A syntax error is where its file says.
        source: the submission's folder.
    """
    file, line = _innermost(error, source)
    return _place(file, line, source)


def line_of_error(error: BaseException, source: Path) -> str:
    """Return the text of the line that `place_of_error` names.

    Args:
        error: the exception.
        source: the submission's folder.
    """
    file, line = _innermost(error, source)
    return linecache.getline(file, line).strip()


def place_of_function(function: object, source: Path) -> str:
    """Return where a function is defined; empty if not in the submission.

    Args:
        function: any object.
        source: the submission's folder.
    """
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return ""
    return _place(code.co_filename, code.co_firstlineno, source)


def place_of_class(kind: type, source: Path) -> str:
    """Return where a class has its `forward`, or else its first method; empty if not in the submission.

    Args:
        kind: the class. Its base classes count too.
        source: the submission's folder.
    """
    for owner in kind.__mro__:
        methods = [value for value in vars(owner).values() if isinstance(value, FunctionType)]
        methods.sort(key=lambda method: method.__name__ != "forward")
        if methods and (place := place_of_function(methods[0], source)):
            return place
    return ""


def place_of_detector(detector: nn.Module, source: Path) -> str:
    """Return where the first of a detector's modules that the submission defines is defined.

    Args:
        detector: the detector.
        source: the submission's folder.
    """
    places = (place_of_class(type(module), source) for module in detector.modules())
    return next(filter(None, places), "")


def _innermost(error: BaseException, source: Path) -> tuple[str, int]:
    if isinstance(error, SyntaxError) and isinstance(error.filename, str):
        return error.filename, error.lineno or 0
    steps = traceback.walk_tb(error.__traceback__)
    places = [(frame.f_code.co_filename, line) for frame, line in steps]
    return next((place for place in reversed(places) if _place(*place, source)), ("", 0))


def _place(file: str, line: int, source: Path) -> str:
    path = Path(file)
    return f"{path.relative_to(source)}:{line}: " if path.is_relative_to(source) else ""
