"""`attnbench evaluate SUBMISSION…`: run submissions, print a table, write records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli import options


def evaluate(
    submissions: options.Submissions,
    track: options.Tracks = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            envvar="ATTNBENCH_TASK",
            metavar="NAME|FILE",
            help="A task, or a task file; may be repeated. (default: every task of the track)",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            envvar="ATTNBENCH_TARGET",
            metavar="NAME",
            help="Run only this target; may be repeated. A record is written once all of its targets "
            "have run. (default: every target)",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            envvar="ATTNBENCH_BACKBONE",
            metavar="NAME|FILE",
            help="The backbone to adapt: its name, a backbone.toml, or FILE.py:FUNCTION, whose code "
            "the evaluator runs. (default: those of the task)",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            envvar="ATTNBENCH_SET",
            metavar="NAME=VALUE",
            help="Replace a hyperparameter of the manifest; may be repeated. The record is named after "
            "it. NAME=A,B runs each value.",
        ),
    ] = None,
    device: options.Device = "cpu",
    seeds: options.Seeds = 1,
    engine: options.Engine = "local",
    workers: options.Workers = None,
    address: Annotated[
        str | None,
        typer.Option(
            envvar="ATTNBENCH_ADDRESS",
            metavar="ADDRESS",
            help="Address of a Ray cluster; `local` runs Slurm's tasks on this machine.",
        ),
    ] = None,
    isolation: options.Isolation = "process",
    timeout: Annotated[
        float | None,
        typer.Option(
            envvar="ATTNBENCH_TIMEOUT",
            metavar="S",
            help="Time limit for one adaptation in seconds. (default: the task's)",
        ),
    ] = None,
    fresh: options.Fresh = False,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            envvar="ATTNBENCH_KEEP_GOING",
            help="Run all targets of a task, even after the same failure on the first two.",
        ),
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed/--no-retry-failed",
            envvar="ATTNBENCH_RETRY_FAILED",
            help="Whether failed episodes of existing records run again.",
        ),
    ] = True,
    timing_only: Annotated[
        bool,
        typer.Option(
            "--timing-only",
            envvar="ATTNBENCH_TIMING_ONLY",
            help="Only repeat the timing of episodes that shared the CPU with other work.",
        ),
    ] = False,
    data: options.Data = None,
    records: options.Records = Path("records"),
    untrained: Annotated[
        bool,
        typer.Option(
            "--untrained",
            envvar="ATTNBENCH_UNTRAINED",
            help="Use backbones without trained weights, for counting and timing.",
        ),
    ] = False,
    progress: options.Progress = "auto",
    wide: Annotated[
        bool,
        typer.Option(
            "--wide",
            envvar="ATTNBENCH_WIDE",
            help="Print all columns of the table, even if the terminal is too narrow for them.",
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            envvar="ATTNBENCH_VERBOSE",
            help="Print full tracebacks of failures, and what the submissions printed.",
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", envvar="ATTNBENCH_JSON", help="Print one JSON object per row."),
    ] = False,
) -> None:
    """Evaluate submissions on tasks.

    Prints a table of sensitivity, parameters and adaptation time, and writes a record per submission,
    task, backbone and seed. Your existing records are reused, failures are retried, and an
    interrupted run resumes where it stopped. Published records are neither reused nor changed.
    """
    if timeout is not None and not 0 < timeout < float("inf"):
        raise typer.BadParameter("must be a positive number of seconds", param_hint="--timeout")

    from attnbench.cli.progress import display
    from attnbench.cli.report import any_failed, print_json, print_report
    from attnbench.commands.evaluate import run_evaluation
    from attnbench.overrides import parse_settings

    with display(progress, sys.stderr) as show:
        evaluation = run_evaluation(
            submissions,
            track=track or None,
            tasks=task or None,
            targets=target or None,
            backbone=backbone,
            settings=parse_settings(settings or ()),
            device=device,
            seeds=seeds,
            engine=engine,
            workers=workers,
            address=address,
            isolation=isolation,
            timeout=timeout,
            fresh=fresh,
            keep_going=keep_going,
            retry_failed=retry_failed,
            timing_only=timing_only,
            data=data,
            records=records,
            untrained=untrained,
            on_event=show,
        )
    if as_json:
        print_json(evaluation)
    else:
        print_report(evaluation, wide=wide, verbose=verbose)
    if any_failed(evaluation):
        raise typer.Exit(1)
