"""`attnbench check SUBMISSION`: manifest, contract, artefact and determinism, or the clock."""

from __future__ import annotations

import json
from dataclasses import asdict, astuple
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.cli import options

if TYPE_CHECKING:
    from attnbench.timing import Figure


def check(
    submission: Annotated[
        str | None,
        typer.Argument(
            metavar="SUBMISSION",
            help="Its folder, or the name of a shipped one. With --timing it may be left out.",
        ),
    ] = None,
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
    timing: Annotated[
        bool,
        typer.Option(
            "--timing",
            envvar="ATTNBENCH_TIMING",
            help="Check the clock instead: the same adaptation twice, and once with a sleep.",
        ),
    ] = False,
    device: options.Device = options.DeviceName.cpu,
    data: options.Data = None,
    as_json: options.OneObject = False,
) -> None:
    """Check a submission, in seconds.

    Looks at manifest, contract, artefact and determinism, and counts its parameters. With
    --timing it checks this machine's clock instead, in about a minute (docs/timing.md).
    """
    if timing:
        _check_timing(submission or "attention", device=device.value, data=data, as_json=as_json)
        return
    if submission is None:
        raise typer.BadParameter("name a submission, or add --timing", param_hint="SUBMISSION")

    from attnbench import checking
    from attnbench.cli.text import printable

    report = checking.check(
        submission, backbone=backbone, untrained=untrained, device=device.value, data=data
    )
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


def _check_timing(submission: str, *, device: str, data: Path | None, as_json: bool) -> None:
    from attnbench import timing
    from attnbench.cli.text import printable

    report = timing.check_timing(submission, device=device, data=data)
    if as_json:
        typer.echo(json.dumps(asdict(report)))
    else:
        name = printable(submission)
        typer.echo(f"{name} on {device}, {report.repeats} times each; medians, 95 % intervals")
        typer.echo(f"  adaptation             {_milliseconds(report.seconds)}")
        ratio = report.ratio
        typer.echo(
            f"  the same once more     {ratio.median:.3f} x [{ratio.low:.3f}, {ratio.high:.3f}]"
        )
        typer.echo(f"  asleep for 100 ms      {_milliseconds(report.slept)} more")
        typer.echo("  of the time of all these episodes")
        total = sum(report.phases.values())
        for phase, seconds in report.phases.items():
            typer.echo(f"    {phase:<29}{seconds / total:7.1%}")
        for problem in report.problems:
            typer.echo(f"  - {problem}")
        typer.echo("the clock holds" if not report.problems else "the clock does not hold")
    if report.problems:
        raise typer.Exit(1)


def _milliseconds(figure: Figure) -> str:
    median, low, high = (f"{1000 * each:.0f}" for each in astuple(figure))
    return f"{median} ms [{low}, {high}]"
