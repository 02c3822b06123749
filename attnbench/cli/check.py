"""`attnbench check SUBMISSION`: manifest, contract, artefact and determinism, in seconds."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from attnbench.cli import options


def check(
    submission: Annotated[
        str, typer.Argument(metavar="SUBMISSION", help="Its folder, or the name of a shipped one.")
    ],
    backbone: Annotated[
        str | None,
        typer.Option(
            envvar="ATTNBENCH_BACKBONE",
            metavar="NAME",
            help="The backbone to check it on. (default: a small shipped one)",
        ),
    ] = None,
    untrained: Annotated[
        bool,
        typer.Option(
            "--untrained",
            envvar="ATTNBENCH_UNTRAINED",
            help="The backbone without weights: needs no data.",
        ),
    ] = False,
    data: options.Data = None,
    as_json: options.OneObject = False,
) -> None:
    """Check a submission, in seconds.

    Looks at manifest, contract, artefact and determinism, and counts its parameters.
    """
    from attnbench import checking
    from attnbench.cli.text import printable

    report = checking.check(submission, backbone=backbone, untrained=untrained, data=data)
    if as_json:
        fields = (
            "submission",
            "ok",
            "problems",
            "backbone",
            "parameters_added",
            "parameters_changed",
            "artefact_bytes",
        )
        typer.echo(json.dumps({field: getattr(report, field) for field in fields}))
    else:
        name = printable(report.submission)
        if report.refused:
            typer.echo(f"{name}: nothing to check on {printable(report.backbone)}")
        elif report.ok:
            typer.echo(f"{name}: ok on {printable(report.backbone)}")
        else:
            typer.echo(f"{name}: {len(report.problems)} found on {printable(report.backbone)}")
        for problem in report.problems:
            typer.echo(f"  - {printable(problem)}")
        if report.parameters_added is not None and report.parameters_changed is not None:
            typer.echo(
                f"  parameters: {report.parameters_added:,} added + "
                f"{report.parameters_changed:,} changed"
            )
        if report.parameters_opaque:
            typer.echo(
                f"  {report.parameters_opaque:,} of those added are not in tensors: numbers or texts "
                "in objects or source, counted by the byte (docs/trust.md)"
            )
        if report.artefact_bytes is not None:
            typer.echo(f"  artefact: {report.artefact_bytes:,} bytes")
    if not report.ok:
        raise typer.Exit(1)
