"""`attnbench new NAME`: a submission to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Of the submission and of its folder.")
    ],
    folder: Annotated[
        Path,
        typer.Option(
            "--in", envvar="ATTNBENCH_IN", metavar="DIR", help="Where to create the folder."
        ),
    ] = Path("."),
) -> None:
    """Start a submission that runs as it is.

    Creates a folder with manifest, code and README.
    """
    from attnbench import scaffold

    created = scaffold.new(name, folder)
    typer.echo(f"{created} is there and runs as it is:")
    typer.echo(f"  attnbench check {created}")
    typer.echo(f"  attnbench evaluate {created}")
