"""`attnbench verify RECORD`: run a record again and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli import options
from attnbench.cli.spinner import spinner


def verify(
    record: Annotated[
        Path,
        typer.Argument(
            metavar="RECORD",
            exists=True,
            dir_okay=False,
            help="A record's JSON file; its scores lie beside it.",
        ),
    ],
    sample: Annotated[
        int | None,
        typer.Option(
            envvar="ATTNBENCH_SAMPLE",
            min=1,
            metavar="K",
            help="Run only this many targets again, drawn at random. (default: all)",
        ),
    ] = None,
    submission: Annotated[
        str | None,
        typer.Option(
            envvar="ATTNBENCH_SUBMISSION",
            metavar="DIR",
            help="The submission's folder. (default: submissions/NAME here, or the shipped one)",
        ),
    ] = None,
    task: options.TaskFile = None,
    backbone: options.RecordedBackbone = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            envvar="ATTNBENCH_SET",
            metavar="NAME=VALUE",
            help="A hyperparameter that was replaced when the record was made; may be repeated.",
        ),
    ] = None,
    data: options.Data = None,
    as_json: options.OneObject = False,
) -> None:
    """Run a record again and check that its results hold.

    The outcome is written beside the record, and the leaderboard shows it as a badge.
    """
    from attnbench.commands.verify import verify as verify_record
    from attnbench.overrides import parse_settings
    from attnbench.text import printable

    with spinner("loading the network and the data") as show:
        verification = verify_record(
            record,
            sample=sample,
            submission=submission,
            task=task,
            backbone=backbone,
            settings=parse_settings(settings or ()),
            data=data,
            on_target=lambda target: show(f"running {printable(target, 60)} again"),
        )
    problems, inconclusive = verification.problems, verification.unsettled
    if as_json:
        typer.echo(verification.model_dump_json())
    elif problems or inconclusive:
        outcome = "failed verification" if problems else "inconclusive"
        typer.echo(f"{printable(record)}: {outcome}")
        for problem in (*problems, *inconclusive):
            typer.echo(f"  - {printable(problem)}")
    else:
        count = len(verification.targets)
        typer.echo(
            f"{printable(record)}: verified on {count} target{'s' * (count != 1)}: "
            + printable(", ".join(verification.targets))
        )
    if problems or inconclusive:
        raise typer.Exit(1)
