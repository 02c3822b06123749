"""`attnbench check SUBMISSION`: check the contract of a submission, or the clock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, astuple
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.cli import options
from attnbench.cli.spinner import spinner
from attnbench.vocabulary import DeviceKind

if TYPE_CHECKING:
    from attnbench.commands.check import BackboneReport, CheckReport
    from attnbench.commands.check_timing import Estimate, TimingReport

# The keys of `--json` about the submission, and those about its first backbone.
_OF_SUBMISSION = ("submission", "ok", "problems")
_OF_BACKBONE = (
    "backbone",
    "parameters_added",
    "parameters_changed",
    "other_numbers",
    "artefact_bytes",
)
# Further keys of each object under `backbones`.
_ALSO_OF_BACKBONE = ("problems", "warnings", "not_applicable")
# How many changed tensors of the backbone are named.
_NAMED = 3


def check(
    submission: Annotated[
        str | None,
        typer.Argument(
            metavar="SUBMISSION",
            help="A folder, or the name of a shipped submission. Optional with --timing.",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            envvar="ATTNBENCH_BACKBONE",
            metavar="NAME|FILE",
            help="The backbone to check it on, as for evaluate. (default: two small shipped ones, "
            "one with a label for the target and one without)",
        ),
    ] = None,
    untrained: options.Untrained = False,
    timing: Annotated[
        bool,
        typer.Option(
            "--timing",
            envvar="ATTNBENCH_TIMING",
            help="Check the clock instead: time one adaptation twice, and once with a sleep.",
        ),
    ] = False,
    device: options.Device = "cpu",
    data: options.Data = None,
    as_json: options.OneObject = False,
) -> None:
    """Check a submission in seconds.

    Checks its manifest, contract, artefact and determinism, and counts its parameters. With
    --timing, checks this machine's clock instead, in about a minute (docs/timing.md).
    """
    if timing:
        _check_timing(submission or "attention", device=device, data=data, as_json=as_json)
        return
    if submission is None:
        raise typer.BadParameter("name a submission, or add --timing", param_hint="SUBMISSION")

    from attnbench.commands.check import check as check_submission

    with spinner("adapting to noise images, and predicting"):
        report = check_submission(
            submission, backbone=backbone, untrained=untrained, device=device, data=data
        )
    if as_json:
        typer.echo(json.dumps(_as_object(report)))
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(1)


def _as_object(report: CheckReport) -> dict[str, object]:
    return {
        **{name: getattr(report, name) for name in _OF_SUBMISSION},
        **{name: getattr(report.main, name) for name in _OF_BACKBONE},
        "warnings": report.warnings,
        "backbones": [
            {name: getattr(on, name) for name in (*_OF_BACKBONE, *_ALSO_OF_BACKBONE)}
            for on in report.backbones
        ],
    }


def _print_report(report: CheckReport) -> None:
    from attnbench.text import printable

    count = len(report.problems)
    verdict = "ok" if report.ok else f"{count} problem{'s' * (count != 1)}"
    typer.echo(f"{printable(report.submission)}: {verdict}")
    for problem in report.problems:
        typer.echo(f"  - {printable(problem)}")
    for warning in report.warnings:
        typer.echo(f"  - warning: {printable(warning)}")
    for on in report.backbones:
        label = "a label" if on.has_label else "no label"
        typer.echo(f"  {printable(on.backbone)}, which has {label} for the target:")
        for line in _lines_about(on):
            typer.echo(f"    {printable(line)}")


def _lines_about(on: BackboneReport) -> Iterator[str]:
    if on.not_applicable:
        yield f"does not apply: {on.not_applicable}"
    elif on.parameters_added is None or on.parameters_changed is None:
        yield "no artefact"
    else:
        changed = ", ".join([*on.changed[:_NAMED], *["…"] * (len(on.changed) > _NAMED)])
        yield (
            f"parameters: {on.parameters_added:,} added + {on.parameters_changed:,} changed"
            + f" ({changed})" * bool(changed)
        )
        yield (
            f"other numbers: {on.other_numbers:,} outside tensors, such as settings (docs/trust.md)"
        )
        yield f"artefact: {on.artefact_bytes:,} bytes"


def _check_timing(submission: str, *, device: DeviceKind, data: Path | None, as_json: bool) -> None:
    from attnbench.commands.check_timing import check_timing

    with spinner("timing adaptations, for about a minute"):
        report = check_timing(submission, device=device, data=data)
    if as_json:
        typer.echo(json.dumps(asdict(report)))
    else:
        _print_timing(submission, report)
    if report.problems:
        raise typer.Exit(1)


def _print_timing(submission: str, report: TimingReport) -> None:
    from attnbench.text import printable

    typer.echo(
        f"{printable(submission)} on {report.device}, {report.repeats} runs of each version; "
        "medians and 95 % intervals"
    )
    ratio = report.ratio
    typer.echo(f"  adaptation             {_milliseconds(report.seconds)}")
    typer.echo(f"  the same again         {ratio.median:.3f} x [{ratio.low:.3f}, {ratio.high:.3f}]")
    typer.echo(f"  with a 100 ms sleep    {_milliseconds(report.slept)} more")
    typer.echo("  share of the total time")
    total = sum(report.phases.values())
    for phase, seconds in report.phases.items():
        typer.echo(f"    {phase:<29}{seconds / total:7.1%}")
    for problem in report.problems:
        typer.echo(f"  - {problem}")
    typer.echo("the clock is wrong" if report.problems else "the clock is right")


def _milliseconds(estimate: Estimate) -> str:
    median, low, high = (f"{1000 * seconds:.0f}" for seconds in astuple(estimate))
    return f"{median} ms [{low}, {high}]"
