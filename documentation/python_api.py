"""The reference of Python modules: an entry for mkdocstrings for each public name."""

from __future__ import annotations

from importlib import import_module


def markdown(module: str) -> str:
    """Return a block for mkdocstrings for each name in a module's `__all__`.

    Args:
        module: the full name of a module of attnbench.
    """
    names = [name for name in import_module(module).__all__ if not name.startswith("_")]
    return "\n\n".join(f"::: {module}.{name}" for name in names)
