"""`attnbench new NAME`: create a submission to start from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The name of the submission and its folder.")
    ],
    folder: Annotated[
        Path,
        typer.Option(
            "--in",
            envvar="ATTNBENCH_IN",
            metavar="DIR",
            file_okay=False,
            help="Where to create the folder.",
        ),
    ] = Path("."),
) -> None:
    """Create a submission that runs as it is.

    Creates a folder with a manifest, code and a README.
    """
    from attnbench.commands.new import new as create_submission

    created = create_submission(name, folder)
    typer.echo(f"Created {created}, which runs as it is:")
    path = shlex.quote(str(created))
    typer.echo(f"  attnbench try {path}")
    typer.echo(f"  attnbench check {path}")
    typer.echo(f"  attnbench evaluate {path}")
