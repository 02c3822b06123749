"""`attnbench verify RECORD…`: run records again and compare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.cli import options
from attnbench.cli.audit_report import print_audit
from attnbench.cli.spinner import spinner

if TYPE_CHECKING:
    from attnbench.records.verification import Verification


def verify(
    records: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECORD",
            exists=True,
            dir_okay=False,
            help="JSON files of records; their scores lie beside them.",
            show_default=False,
        ),
    ],
    audit: options.Audit = False,
    sample: options.Sample = None,
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
    as_json: Annotated[
        bool,
        typer.Option("--json", envvar="ATTNBENCH_JSON", help="Print one JSON object per record."),
    ] = False,
) -> None:
    """Run records again and check that their results hold.

    With --audit, the submission is judged on images of a secret seed instead. Public seeds are known,
    so a submission can be tuned to their images.

    The outcome is written beside each record, and the leaderboard shows it as a badge.
    """
    from attnbench.commands.audit import audit as audit_record
    from attnbench.commands.verify import verify as verify_record
    from attnbench.overrides import parse_settings
    from attnbench.records.audit import Audit
    from attnbench.text import printable

    replaced = parse_settings(settings or ())
    all_hold = True
    for record in records:
        with spinner("loading the network and the data") as show:

            def announce(target: str, show: Callable[[str], None] = show) -> None:
                show(f"running {printable(target, 60)}")

            outcome = (audit_record if audit else verify_record)(
                record,
                sample=sample,
                submission=submission,
                task=task,
                backbone=backbone,
                settings=replaced,
                data=data,
                on_target=announce,
            )
        if isinstance(outcome, Audit):
            holds = not outcome.is_beyond_chance
        else:
            holds = not (outcome.problems or outcome.unsettled)
        all_hold &= holds
        if as_json:
            typer.echo(outcome.model_dump_json())
        elif isinstance(outcome, Audit):
            typer.echo(printable(record))
            print_audit(outcome)
        else:
            _print_verification(outcome, record)
    if not all_hold:
        raise typer.Exit(1)


def _print_verification(verification: Verification, record: Path) -> None:
    from attnbench.text import printable

    problems, inconclusive = verification.problems, verification.unsettled
    if problems or inconclusive:
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
