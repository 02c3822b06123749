"""The reference of the command line, made from the commands themselves."""

from __future__ import annotations

import re

import typer
from typer.cli import get_docs_for_click

from attnbench.cli.main import app


def markdown() -> str:
    """Return the reference of all commands: usage, arguments and options of each."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="attnbench")
    text = get_docs_for_click(obj=command, ctx=context, name="attnbench")
    # The page that this is inserted into has a title of its own, and each command has a section.
    _, _, body = text.partition("\n")
    without_lists = re.sub(r"\*\*Commands\*\*:.*?(?=^#)", "", body, flags=re.MULTILINE | re.DOTALL)
    return without_lists.strip()
