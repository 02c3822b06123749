"""`attnbench verify RECORD`: run it again and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli import options


def verify(
    record: Annotated[
        Path, typer.Argument(metavar="RECORD", help="A record's JSON; its scores lie beside it.")
    ],
    sample: Annotated[
        int | None,
        typer.Option(
            envvar="ATTNBENCH_SAMPLE",
            min=1,
            metavar="K",
            help="Run so many targets again, chosen by chance. (default: all)",
        ),
    ] = None,
    submission: Annotated[
        str | None,
        typer.Option(
            envvar="ATTNBENCH_SUBMISSION",
            metavar="DIR",
            help="The submission's folder. (default: the one of its name, here or shipped)",
        ),
    ] = None,
    data: options.Data = None,
    as_json: options.OneObject = False,
) -> None:
    """Run a record again: do its figures hold?

    What was found is kept beside the record; the leaderboard shows it as a badge.
    """
    from attnbench import verifying
    from attnbench.cli.text import printable

    found = verifying.verify(record, sample=sample, submission=submission, data=data)
    if as_json:
        typer.echo(found.model_dump_json())
    elif found.problems or found.unsettled:
        said = "failed verification" if found.problems else "not settled"
        typer.echo(f"{printable(record)}: {said}")
        for problem in (*found.problems, *found.unsettled):
            typer.echo(f"  - {printable(problem)}")
        if found.unsettled:
            typer.echo("Other work kept the processors busy: verify times on an idle machine.")
    else:
        typer.echo(
            f"{printable(record)}: verified, {len(found.targets)} targets run again: "
            + printable(", ".join(found.targets))
        )
    if found.problems or found.unsettled:
        raise typer.Exit(1)
