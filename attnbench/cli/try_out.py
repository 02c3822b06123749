"""`attnbench try SUBMISSION`: one episode in this process, while you work on a method."""

from __future__ import annotations

import bdb
import traceback
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.cli import options
from attnbench.vocabulary import TRIED_TASK

if TYPE_CHECKING:
    from attnbench.commands.open_episode import OpenEpisode
    from attnbench.commands.try_out import Attempt


def try_(
    submission: options.Submission,
    task: options.OneTask = TRIED_TASK,
    target: Annotated[
        str | None,
        typer.Option(
            envvar="ATTNBENCH_TARGET", metavar="NAME", help="The target. (default: the first)"
        ),
    ] = None,
    seed: options.Seed = 0,
    track: options.Track = None,
    backbone: options.TriedBackbone = None,
    device: options.Device = "cpu",
    data: options.Data = None,
    untrained: options.Untrained = False,
) -> None:
    """Run one episode of a submission in this process.

    print, breakpoint() and warnings work, and a failure shows its full traceback. Nothing is
    isolated, and no record is written: only try code that you trust.
    """
    from attnbench.commands.try_out import remedy, try_out
    from attnbench.errors import AttnbenchError, NotApplicable

    try:
        attempt = try_out(
            submission,
            task=task,
            target=target,
            seed=seed,
            track=track,
            backbone=backbone,
            device=device,
            data=data,
            untrained=untrained,
            on_episode=_print_episode,
        )
    except NotApplicable as refusal:
        typer.echo(f"not applicable: {refusal}")
        return
    except AttnbenchError:
        raise
    except bdb.BdbQuit:
        typer.echo("the debugger was left, so there is no result", err=True)
        raise typer.Exit(1) from None
    except Exception as error:
        trace = _without_own_frames(error.__traceback__)
        typer.echo("".join(traceback.format_exception(type(error), error, trace)), err=True)
        if text := remedy(error, submission):
            typer.echo(f"What to do: {text}", err=True)
        raise typer.Exit(1) from None
    _print_attempt(attempt)


def _without_own_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that begins outside attnbench and the import system, if any."""
    package = Path(__file__).parents[1]
    outer = trace
    while outer is not None:
        file = outer.tb_frame.f_code.co_filename
        if not Path(file).is_relative_to(package) and "importlib" not in file:
            return outer
        outer = outer.tb_next
    return None


def _print_episode(submission: str, episode: OpenEpisode) -> None:
    from attnbench.text import printable

    typer.echo(
        f"{printable(submission)} on {printable(episode.task)} ({printable(episode.track)}), "
        f"{printable(episode.backbone.name)}, target {printable(episode.target)}, seed {episode.seed}"
    )


def _print_attempt(attempt: Attempt) -> None:
    from attnbench.cli.results_table import seconds
    from attnbench.text import printable

    measures, cost = attempt.result.measures, attempt.result.cost
    assert measures is not None and cost is not None
    typer.echo(
        f"  d′ {measures.d_prime:.2f}, d_a {measures.d_a:.2f}, c {measures.criterion:+.2f}: "
        f"{measures.hits} of {measures.positives} hits, "
        f"{measures.false_alarms} of {measures.negatives} false alarms"
    )
    typer.echo(
        f"  parameters: {cost.parameters_added:,} added + {cost.parameters_changed:,} changed; "
        f"other numbers: {cost.other_numbers:,}"
    )
    typer.echo(
        f"  adaptation {seconds(cost.adaptation_seconds)}, "
        f"prediction {seconds(cost.prediction_seconds)} (one run, not warmed up)"
    )
    for remark in attempt.remarks:
        typer.echo(f"  - {printable(remark)}")
