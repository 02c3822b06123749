"""`attnbench curve SUBMISSION…`: d_a against the number of images, or against a budget."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnbench.cli import options
from attnbench.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from attnbench.overrides import Value
    from attnbench.records.learning_curves import Curve
    from attnbench.runs.curve_plans import Size
    from attnbench.statistics.curves import Estimate


def curve(
    submissions: options.Submissions,
    images: Annotated[
        str | None,
        typer.Option(
            envvar="ATTNBENCH_IMAGES",
            metavar="N,N,…",
            help="Numbers of positives to adapt on, or all. Negatives are in proportion. "
            "(default: the powers of two, and all)",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            envvar="ATTNBENCH_BUDGET",
            metavar="declared|V,V,…",
            help="Values of the hyperparameter that a submission declares as its budget, or "
            "`declared` for the values that it declares.",
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            envvar="ATTNBENCH_TASK",
            metavar="NAME|FILE",
            help="A task or a task file; may be repeated. (default: imagenet-standard)",
        ),
    ] = None,
    track: options.Track = None,
    backbone: options.OtherBackbone = None,
    device: options.Device = "cpu",
    seeds: options.Seeds = 1,
    engine: options.Engine = "local",
    workers: options.Workers = None,
    isolation: options.Isolation = "process",
    fresh: options.Fresh = False,
    data: options.Data = None,
    records: options.Records = Path("records"),
    plot: Annotated[
        Path | None,
        typer.Option(
            envvar="ATTNBENCH_PLOT",
            metavar="FILE",
            dir_okay=False,
            help="Also plot the curves to this file (.svg or .png).",
        ),
    ] = None,
    progress: options.Progress = "auto",
    as_json: Annotated[
        bool,
        typer.Option("--json", envvar="ATTNBENCH_JSON", help="Print one JSON object per point."),
    ] = False,
) -> None:
    """Measure d_a against the number of images, or a budget.

    Adapts on nested subsets of each episode's images. Every detector is tested on held-out images
    and on those that it adapted on; the difference is the generalisation lag. Records are kept in
    the folder `curves` of the folder of records, and an interrupted run resumes.
    """
    sizes = None if images is None else _sizes(images)
    options.check_plot(plot)

    from attnbench.cli.progress import display
    from attnbench.commands.curve import DECLARED, DEFAULT_TASK
    from attnbench.commands.curve import curve as measure

    with display(progress, sys.stderr) as show:
        curves = measure(
            submissions,
            images=sizes,
            budget=budget if budget in (None, DECLARED) else _values(budget),
            tasks=task or DEFAULT_TASK,
            track=track,
            backbone=backbone,
            device=device,
            seeds=seeds,
            engine=engine,
            workers=workers,
            isolation=isolation,
            fresh=fresh,
            data=data,
            records=records,
            on_event=show,
        )
    if plot is not None:
        from attnbench.leaderboard.curve_plot import curve_plot
        from attnbench.leaderboard.plot_style import write_plot

        write_plot(curve_plot(curves), plot)
    if as_json:
        import json

        for each in curves:
            for row in each.rows():
                print(json.dumps(row))
        return
    from rich.console import Console

    print_curves(curves, Console(highlight=False))


def print_curves(curves: Sequence[Curve], console: Console) -> None:
    """Print a table of the points and a sentence about each curve, for each setting."""
    from rich import box
    from rich.table import Table

    settings: dict[tuple[str, str, str], list[Curve]] = {}
    for each in curves:
        key = each.key
        settings.setdefault((key.task, key.track, key.backbone), []).append(each)
    for (task, track, backbone), own in settings.items():
        console.print(printable(f"{task} ({track}, {backbone})"), style="bold")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("submission")
        for heading in (own[0].axis, "d′", "d_a", "AUC", "AUC adapted on", "lag", "passes"):
            table.add_column(heading, justify="right")
        for each in own:
            for row in each.rows():
                table.add_row(printable(each.key.submission), *_figures(row))
            table.add_section()
        console.print(table)
        for each in own:
            if len(each.abscissa) > 1:
                console.print(printable(_sentence(each)))
            for reason in each.failures:
                console.print(printable(f"{each.key.submission}: {reason}", 200), style="yellow")
        console.print()
    console.print(
        "Means over targets, with 95 % intervals. The area is the mean d_a over log2 of the axis. "
        "The lag is the AUC on the images adapted on minus the AUC on held-out images."
    )


def _sentence(curve: Curve) -> str:
    summary, axis = curve.summary, curve.axis
    return (
        f"{curve.key.submission}: area {_text(summary.area)}; 90 % of its best from "
        f"{_text(summary.needed, '.3g')} {axis} on; mean lag {_text(summary.lag)}, largest at "
        f"{_text(summary.peak, '.3g')} {axis}."
    )


def _figures(row: Mapping[str, Any]) -> Iterator[str]:
    yield "–" if row["axis"] == "no budget" else f"{row['value']:g}"
    yield from (f"{row[name]:.2f}" for name in ("d_prime", "d_a", "auc", "auc_seen"))
    yield f"{row['auc_seen'] - row['auc']:+.2f}"
    passes = row["adaptation_passes"]
    yield "–" if passes is None else f"{passes:.1f}"


def _text(estimate: Estimate, form: str = ".2f") -> str:
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def _sizes(text: str) -> list[Size]:
    """Return the sizes in a comma-separated list. Raises typer.BadParameter."""
    sizes: list[Size] = []
    for part in filter(None, map(str.strip, text.split(","))):
        if part != "all" and not (part.isdigit() and int(part) > 0):
            raise typer.BadParameter(
                f"{part!r} is not a number of images; write, for example, 1,2,4,all",
                param_hint="--images",
            )
        sizes.append("all" if part == "all" else int(part))
    if not sizes:
        raise typer.BadParameter("name at least one number of images", param_hint="--images")
    return sizes


def _values(text: str) -> list[Value]:
    """Return the values in a comma-separated list of positive numbers. Raises typer.BadParameter."""
    values: list[Value] = []
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            value = float(part)
        except ValueError:
            value = -1
        if not 0 < value < float("inf"):
            raise typer.BadParameter(
                f"{part!r} is not a positive number; write, for example, 1,2,4 or declared",
                param_hint="--budget",
            )
        values.append(int(part) if part.isdigit() else value)
    if len(values) < 2:
        raise typer.BadParameter("name at least two values", param_hint="--budget")
    return values
