"""The reference of the command line, made from the commands themselves."""

from __future__ import annotations

import re

import typer
from typer.cli import get_docs_for_click

from attnbench.cli.main import app


def markdown() -> str:
    """Return the reference of all commands: usage, arguments and options of each."""
    command = typer.main.get_command(app)
    with typer.Context(command, info_name="attnbench") as context:
        text = get_docs_for_click(obj=command, ctx=context, name="attnbench")
    # The page that this is inserted into has a title of its own.
    _, _, body = text.partition("\n")
    return re.sub(r"^\* `(--?[\w-])", r"- `\1", body.strip(), flags=re.MULTILINE)
