"""A spinner on the terminal, with a line that says what a slow command is doing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def spinner(text: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner with a text on stderr while the context lasts, if stderr is a terminal.

    Args:
        text: what the command is doing.

    Yields:
        A function that replaces the text.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status(Text(text)) as status:
        yield lambda text: status.update(Text(text))
