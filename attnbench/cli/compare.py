"""`attnbench compare A B…`: paired differences and error consistency, with people too."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.cli import options
from attnbench.text import printable
from attnbench.vocabulary import PEOPLE

if TYPE_CHECKING:
    from attnbench.commands.compare_people import SettingBesidePeople
    from attnbench.leaderboard.comparison import TrackComparison


def compare(
    submissions: Annotated[
        list[str],
        typer.Argument(
            metavar="A B…",
            help="Names of submissions that have records. `people` stands for people who answered "
            "the same pictures.",
        ),
    ],
    records: Annotated[
        list[Path] | None,
        options.record_folders("Earlier folders take precedence. (default: records and published)"),
    ] = None,
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
    trials: Annotated[
        Path | None,
        typer.Option(
            envvar="ATTNBENCH_TRIALS",
            metavar="FILE",
            dir_okay=False,
            help="People's trials as CSV, for one track. (default: those of the task, in --data)",
        ),
    ] = None,
    data: options.Data = None,
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

    The joint difference is the mean over tasks of means over targets, paired by target, seed
    and image. The test is on d_a, with Holm's correction for all pairs of a track. Intervals are
    95 %, by Student's t over targets. A task in parentheses has no results of bias_only and is
    not in the joint difference. κ is Cohen's kappa of the decisions; in parentheses is the
    largest that two detectors with these rates can reach. With `people`, submissions are also
    compared with people who answered the same pictures.
    """
    others = [name for name in submissions if name != PEOPLE]
    wanted = {"track": track, "task": task, "backbone": backbone}
    settings: list[SettingBesidePeople] = []
    if PEOPLE in submissions:
        from attnbench.commands.compare_people import compare_with_people

        settings = compare_with_people(others, trials=trials, data=data, records=records, **wanted)
    comparisons: list[TrackComparison] = []
    if PEOPLE not in submissions or len(others) > 1:
        with _progress() as report:
            from attnbench.commands.compare import compare as compare_submissions

            comparisons = compare_submissions(others, records=records, report=report, **wanted)
    if plot is not None:
        from attnbench.leaderboard.difference_plot import plot_differences

        plot_differences(comparisons, plot)
    if as_json:
        import json
        from dataclasses import asdict

        tracks = [
            asdict(comparison) | {"conclusions": comparison.conclusions}
            for comparison in comparisons
        ]
        result: dict[str, object] = {"submissions": submissions, "tracks": tracks}
        if settings:
            from attnbench.cli.people_table import as_json as people_as_json

            result[PEOPLE] = [people_as_json(setting) for setting in settings]
        typer.echo(json.dumps(result))
        return
    from rich.console import Console

    from attnbench.cli.comparison_table import print_comparison
    from attnbench.leaderboard.comparison import names_by_folder

    console = Console(highlight=False)
    for comparison in comparisons:
        print_comparison(comparison, console)
    if len(used := names_by_folder(comparisons)) > 1:
        for folder, names in used.items():
            console.print(f"From {folder}: {', '.join(names)}.")
    if settings:
        from attnbench.cli.people_table import print_people

        print_people(settings, console)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar if stderr is a terminal.

    Yields:
        A function that takes the setting that is compared next, and the numbers of settings done
        and in total.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
    )
    console, is_terminal = Console(stderr=True), sys.stderr.isatty()
    with Progress(*columns, console=console, transient=True, disable=not is_terminal) as progress:
        bar = progress.add_task("reading records", total=None)

        def report(setting: str, done: int, total: int) -> None:
            description = f"comparing on {printable(setting, 25)}"
            progress.update(bar, description=description, completed=done, total=total)

        yield report
