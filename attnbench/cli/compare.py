"""`attnbench compare A B…`: paired differences and error consistency."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.cli import options

if TYPE_CHECKING:
    from attnbench.statistics.comparison import Difference
    from attnbench.statistics.consistency import Consistency
    from attnbench.statistics.task_comparison import TaskComparison


def compare(
    submissions: Annotated[
        list[str], typer.Argument(metavar="A B…", help="Names of submissions that have records.")
    ],
    records: options.Records = Path("records"),
    track: Annotated[
        str | None,
        typer.Option(
            envvar="ATTNBENCH_TRACK",
            metavar="NAME",
            help="Compare on this track only. (default: all)",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            envvar="ATTNBENCH_TASK",
            metavar="NAME",
            help="Compare on this task only. (default: all)",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            envvar="ATTNBENCH_BACKBONE",
            metavar="NAME",
            help="Compare on this backbone only. (default: all)",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            envvar="ATTNBENCH_PLOT",
            metavar="FILE",
            dir_okay=False,
            help="Also plot the differences to this file.",
        ),
    ] = None,
    as_json: options.OneObject = False,
) -> None:
    """Compare submissions and test their differences.

    Differences are paired by episode and image, and corrected for all pairs of a task (Holm).
    Intervals are 95 %, from a bootstrap over targets and images. Error consistency is Cohen's
    kappa of the decisions, separately for images with and without the target.
    """
    from attnbench.commands.compare import compare as compare_submissions

    comparisons = compare_submissions(
        submissions, records=records, track=track, task=task, backbone=backbone
    )
    if plot is not None:
        from attnbench.leaderboard.difference_plot import plot_differences

        plot_differences(comparisons, plot)
    if as_json:
        import json
        from dataclasses import asdict

        tasks = [
            asdict(comparison) | {"conclusion": comparison.conclusion} for comparison in comparisons
        ]
        typer.echo(json.dumps({"submissions": submissions, "tasks": tasks}))
        return
    _print_comparisons(comparisons)


def _print_comparisons(comparisons: list[TaskComparison]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("difference", overflow="fold", min_width=20)
    for heading in ("d′ [95 %]", "d_a [95 %]", "κ present\n(maximum)", "κ absent\n(maximum)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for task in comparisons:
        for pair in task.pairs:
            table.add_row(
                f"{task.task} ({task.track}),\n{task.backbone}:\n{pair.first} − {pair.second}",
                _format_difference(pair.d_prime),
                _format_difference(pair.d_a),
                _format_kappa(pair.present),
                _format_kappa(pair.absent),
            )
            table.add_section()
    console.print(table)
    for task in comparisons:
        console.print(task.conclusion)


def _format_difference(difference: Difference) -> str:
    p = "p < 0.001" if difference.p_holm < 0.001 else f"p = {difference.p_holm:.3f}"
    interval = f"[{difference.low:+.2f}, {difference.high:+.2f}]"
    return f"{difference.estimate:+.2f}\n{interval}\n{p}"


def _format_kappa(consistency: Consistency) -> str:
    if consistency.kappa is None:
        return "undefined"
    return f"{consistency.kappa:.2f}\n({consistency.largest:.2f})"
