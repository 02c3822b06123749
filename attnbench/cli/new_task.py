"""`attnbench new-task NAME --images DIR`: a task for your own pictures."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def new_task(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the task and its file.")],
    images: Annotated[
        Path,
        typer.Option(
            envvar="ATTNBENCH_IMAGES",
            metavar="DIR",
            exists=True,
            help="One folder of pictures per class, with or without train and test above them; "
            "a CSV with the columns file, label and perhaps split; or Parquet files.",
        ),
    ],
    target: Annotated[
        list[str] | None,
        typer.Option(
            envvar="ATTNBENCH_TARGET",
            metavar="CLASS",
            help="A class to detect; may be repeated. (default: all that have enough pictures)",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            envvar="ATTNBENCH_BACKBONE",
            metavar="NAME|FILE",
            help="The backbone to adapt. (default: a small one that is shipped)",
        ),
    ] = None,
    skip_damaged: Annotated[
        bool,
        typer.Option(
            "--skip-damaged",
            envvar="ATTNBENCH_SKIP_DAMAGED",
            help="Leave out pictures that cannot be read.",
        ),
    ] = False,
    folder: Annotated[
        Path,
        typer.Option(
            "--in",
            envvar="ATTNBENCH_IN",
            metavar="DIR",
            file_okay=False,
            help="Where to create the task file.",
        ),
    ] = Path("."),
) -> None:
    """Create a task for your own pictures that runs as it is.

    Counts the pictures of each class, picks numbers that fit, and says what is too little. If the
    folder has no splits, half of each class is for adaptation and half for testing.
    """
    from attnbench.commands.new_task import DEFAULT_BACKBONE
    from attnbench.commands.new_task import new_task as create_task
    from attnbench.text import printable

    created = create_task(
        name,
        images,
        targets=target or (),
        backbone=backbone or DEFAULT_BACKBONE,
        skip_damaged=skip_damaged,
        parent=folder,
    )
    typer.echo("class: pictures to adapt on, to test on")
    for class_name, (adapt, test) in created.counts.items():
        is_target = "" if class_name in created.targets else " (not a target)"
        typer.echo(f"  {printable(class_name)}: {adapt}, {test}{is_target}")
    for note in created.notes:
        typer.echo(f"note: {printable(note)}")
    typer.echo(f"Created {created.path}, which runs as it is:")
    file = shlex.quote(str(created.path))
    typer.echo(f"  attnbench tasks {file} --gallery {name}.png")
    typer.echo(f"  attnbench evaluate attention --task {file}")
