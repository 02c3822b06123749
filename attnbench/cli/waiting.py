"""What a command is doing while it takes long, as a line on the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def waiting(text: str) -> Iterator[Callable[[str], None]]:
    """Show a text with a spinner on stderr while the context lasts, if stderr is a terminal.

    Args:
        text: what is going on.

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
