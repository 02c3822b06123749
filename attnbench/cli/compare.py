"""`attnbench compare A B…`: paired differences, and error consistency."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.cli import options

if TYPE_CHECKING:
    from attnbench.comparing import TaskComparison
    from attnbench.statistics.comparison import Difference
    from attnbench.statistics.consistency import Consistency


def compare(
    submissions: Annotated[
        list[str], typer.Argument(metavar="A B…", help="Names of submissions that have records.")
    ],
    records: options.Records = Path("records"),
    track: Annotated[
        str | None,
        typer.Option(envvar="ATTNBENCH_TRACK", help="mini, small or full. (default: all)"),
    ] = None,
    task: Annotated[
        str | None, typer.Option(envvar="ATTNBENCH_TASK", metavar="NAME", help="(default: all)")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(envvar="ATTNBENCH_BACKBONE", metavar="NAME", help="(default: all)")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(envvar="ATTNBENCH_PLOT", metavar="FILE", help="Draw the differences too."),
    ] = None,
    as_json: options.OneObject = False,
) -> None:
    """Say which submission is better, and how surely.

    Differences are paired: the same episodes and images, with Holm's correction for all pairs of a
    task. Intervals are 95 %, by a bootstrap over targets and images. Error consistency is Cohen's
    kappa of the decisions, on images with the target and on those without.
    """
    from attnbench import comparing

    found = comparing.compare(
        submissions, records=records, track=track, task=task, backbone=backbone
    )
    if plot is not None:
        from attnbench.leaderboard.plots import plot_differences

        plot_differences(found, plot)
    if as_json:
        import json
        from dataclasses import asdict

        said = [asdict(each) | {"conclusion": each.conclusion} for each in found]
        typer.echo(json.dumps({"submissions": submissions, "tasks": said}))
        return
    _print(found)


def _print(found: list[TaskComparison]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("difference", overflow="fold", min_width=20)
    for heading in ("d′ [95 %]", "d_a [95 %]", "κ present\n(at most)", "κ absent\n(at most)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in found:
        for pair in each.pairs:
            table.add_row(
                f"{each.task} ({each.track}),\n{each.backbone}:\n{pair.first} − {pair.second}",
                _difference(pair.d_prime),
                _difference(pair.d_a),
                _kappa(pair.present),
                _kappa(pair.absent),
            )
            table.add_section()
    console.print(table)
    for each in found:
        console.print(each.conclusion)


def _difference(found: Difference) -> str:
    p = "p < 0.001" if found.p_holm < 0.001 else f"p = {found.p_holm:.3f}"
    return f"{found.estimate:+.2f}\n[{found.low:+.2f}, {found.high:+.2f}]\n{p}"


def _kappa(found: Consistency) -> str:
    return "undefined" if found.kappa is None else f"{found.kappa:.2f}\n({found.largest:.2f})"
