"""`attnbench interference SUBMISSION…`: what an adaptation costs other targets and classes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.cli import options
from attnbench.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from attnbench.records.interference import Interference
    from attnbench.statistics.curves import Estimate


def interference(
    submissions: options.Submissions,
    pairs: Annotated[
        int,
        typer.Option(
            envvar="ATTNBENCH_PAIRS",
            min=1,
            metavar="N",
            help="Pairs of similar targets, and as many of dissimilar ones.",
        ),
    ] = 6,
    task: options.OneTask = "imagenet-standard",
    track: options.Track = None,
    backbone: options.OtherBackbone = None,
    device: options.Device = "cpu",
    seeds: options.Seeds = 1,
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
            help="Also plot the results to this file (.svg or .png).",
        ),
    ] = None,
    progress: options.Progress = "auto",
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", envvar="ATTNBENCH_JSON", help="Print one JSON object per adaptation."
        ),
    ] = False,
) -> None:
    """Measure what an adaptation costs other targets and classes.

    Adapts to a target A, and then adapts the delivered network to a target B: what is lost on A, and
    gained or lost on B against starting afresh? Pairs are those that the backbone confuses most, and
    least, in both orders. Also the top-1 accuracy on the negatives before and after one adaptation.
    Records are kept in the folder `interference` of the folder of records.
    """
    options.check_plot(plot)

    from attnbench.cli.progress import display
    from attnbench.commands.interference import interference as measure

    with display(progress, sys.stderr) as show:
        found = measure(
            submissions,
            pairs=pairs,
            task=task,
            track=track,
            backbone=backbone,
            device=device,
            seeds=seeds,
            isolation=isolation,
            fresh=fresh,
            data=data,
            records=records,
            on_event=show,
        )
    drawn = [each for each in found if each.has_sequences]
    if plot is not None and drawn:
        from attnbench.leaderboard.interference_plot import interference_plot
        from attnbench.leaderboard.plot_style import write_plot

        write_plot(interference_plot(drawn), plot)
    if as_json:
        import json

        for each in found:
            for row in each.rows():
                print(json.dumps(row))
    else:
        from rich.console import Console

        print_interference(found, Console(highlight=False))
    if len(drawn) < len(found):
        raise typer.Exit(1)


def print_interference(found: Sequence[Interference], console: Console) -> None:
    """Print what was measured: a table of pairs, one of reference classes, and why any are missing."""
    from rich import box
    from rich.table import Table

    sequences = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    references = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for table, headings in (
        (sequences, ("submission", "pairs", "d_a on A", "d_a on B")),
        (references, ("submission", "before", "after", "change", "taken off")),
    ):
        for number, heading in enumerate(headings):
            table.add_column(heading, justify="left" if number == 0 else "right")
    for each in found:
        name = printable(each.submission, 30)
        if each.has_sequences:
            for similar in (True, False):
                sequences.add_row(
                    name,
                    "similar" if similar else "dissimilar",
                    _signed(each.lost(similar=similar)),
                    _signed(each.gained(similar=similar)),
                )
        if each.has_references:
            before, after, off = (
                f"{each.top1(state).value:.1%}" for state in ("untouched", "adapted", "detached")
            )
            references.add_row(name, before, after, _points(each.reference_cost), off)
    if sequences.row_count:
        console.print("Interference: A, then B from A's network", style="bold")
        console.print(sequences)
        console.print(
            "d_a on A: after both, minus after A alone. d_a on B: after both, minus after B alone. "
            "Means over pairs, with 95 % intervals."
        )
        console.print()
    if references.row_count:
        console.print("Reference cost: top-1 on negatives", style="bold")
        console.print(references)
        console.print(
            "Means over targets, with 95 % intervals; changes in percentage points. Taken off: once "
            "all that the adaptation added is removed."
        )
    for each in found:
        for reason in each.failures:
            console.print(printable(f"{each.submission}: {reason}", 400), style="yellow")


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.2f} [{estimate.low:+.2f}, {estimate.high:+.2f}]"


def _points(estimate: Estimate) -> str:
    low, value, high = (100 * each for each in (estimate.low, estimate.value, estimate.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
