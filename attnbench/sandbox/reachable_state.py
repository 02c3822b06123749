"""State within a detector's reach: the values that the submission's classes and functions hold.

Class attributes, default arguments, closures and globals could hide parameters, so they are packed
with the detector and counted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, GetSetDescriptorType, ModuleType

_NOT_DATA = (ModuleType, BuiltinFunctionType, GetSetDescriptorType, type(None), bool, int, float)
# Attributes that Python gives every class, or every abstract one.
_STANDARD_ATTRIBUTES = {
    "__dict__",
    "__weakref__",
    "__doc__",
    "__module__",
    "__annotations__",
    "_abc_impl",
}


def reachable_state(
    objects: list[type | FunctionType], source: Path
) -> Iterator[tuple[str, object]]:
    """Yield each value that the classes and functions defined in `source` hold, with its location.

    Each value is yielded once. Numbers and short strings are left out: they are in the source, where
    they are counted.

    Args:
        objects: classes and functions. Those defined outside `source` are skipped. The caller may
            append to the list while it consumes the values; appended objects are followed too.
        source: the submission's folder.
    """
    seen: set[int] = set()
    position = 0
    while position < len(objects):
        owner = objects[position]
        position += 1
        if id(owner) in seen or not is_defined_in(source, owner):
            continue
        seen.add(id(owner))
        values = _of_class(owner) if isinstance(owner, type) else _of_function(owner)
        for name, value in values:
            if isinstance(value, type | FunctionType):
                objects.append(value)
            elif not isinstance(value, _NOT_DATA) and id(value) not in seen:
                seen.add(id(value))
                yield f"{owner.__qualname__} ({name})", value


def is_defined_in(source: Path, thing: type | FunctionType) -> bool:
    """Return whether a class or function is defined in a file of this folder."""
    module = sys.modules.get(thing.__module__ or "")
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(source)


def _of_class(kind: type) -> Iterator[tuple[str, object]]:
    yield from (("base", base) for base in kind.__mro__[1:])
    for name, value in list(vars(kind).items()):
        if isinstance(value, staticmethod | classmethod):
            yield name, value.__func__
        elif isinstance(value, property):
            yield from ((name, function) for function in (value.fget, value.fset, value.fdel))
        elif name not in _STANDARD_ATTRIBUTES and not (isinstance(value, str) and len(value) < 256):
            yield name, value


def _of_function(function: FunctionType) -> Iterator[tuple[str, object]]:
    yield from (("default", value) for value in function.__defaults__ or ())
    yield from (function.__kwdefaults__ or {}).items()
    yield from (function.__dict__ or {}).items()
    for cell in function.__closure__ or ():
        try:
            yield "closure", cell.cell_contents
        except ValueError:
            continue  # not assigned yet
    for name in _names_in(function.__code__):
        if name in function.__globals__:
            yield name, function.__globals__[name]


def _names_in(code: CodeType) -> Iterable[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)
