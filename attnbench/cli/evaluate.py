"""`attnbench evaluate SUBMISSION…`: run, print a table, write records."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli import options


class TrackName(StrEnum):
    """How large: see `attnbench tasks`."""

    mini = "mini"
    small = "small"
    full = "full"


class Engine(StrEnum):
    """What runs the episodes."""

    local = "local"
    ray = "ray"
    slurm = "slurm"


class ProgressStyle(StrEnum):
    """How progress is shown on stderr."""

    auto = "auto"
    bars = "bars"
    lines = "lines"
    json = "json"


class Isolation(StrEnum):
    """What keeps a submission from the evaluator."""

    process = "process"
    bwrap = "bwrap"


def evaluate(
    submissions: Annotated[
        list[str],
        typer.Argument(
            metavar="SUBMISSION",
            help="Folders of submissions, or names of shipped ones.",
            show_default=False,
        ),
    ],
    track: Annotated[
        TrackName, typer.Option(envvar="ATTNBENCH_TRACK", help="Size of the tasks.")
    ] = TrackName.mini,
    task: Annotated[
        list[str] | None,
        typer.Option(
            envvar="ATTNBENCH_TASK",
            metavar="NAME",
            help="A task to run; may be repeated. (default: every task of the track)",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            envvar="ATTNBENCH_BACKBONE",
            metavar="NAME",
            help="The backbone to adapt. (default: those of the task)",
        ),
    ] = None,
    device: options.Device = options.DeviceName.cpu,
    seeds: Annotated[
        int,
        typer.Option(
            envvar="ATTNBENCH_SEEDS", min=1, metavar="N", help="Number of seeds: 0 to N - 1."
        ),
    ] = 1,
    engine: Annotated[
        Engine, typer.Option(envvar="ATTNBENCH_ENGINE", help="What runs the episodes.")
    ] = Engine.local,
    workers: Annotated[
        int | None,
        typer.Option(
            envvar="ATTNBENCH_WORKERS",
            min=1,
            metavar="N",
            help="Episodes at a time. Several on one processor take times that rank nobody. "
            "(default: one, or one on each GPU or node)",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            envvar="ATTNBENCH_ADDRESS",
            metavar="ADDRESS",
            help="Of a Ray cluster; `local` runs Slurm's tasks on this machine.",
        ),
    ] = None,
    isolation: Annotated[
        Isolation,
        typer.Option(envvar="ATTNBENCH_ISOLATION", help="How submissions are kept apart."),
    ] = Isolation.process,
    timeout: Annotated[
        float | None,
        typer.Option(
            envvar="ATTNBENCH_TIMEOUT",
            metavar="S",
            help="Seconds that one adaptation may take. (default: the task's)",
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", envvar="ATTNBENCH_FRESH", help="Run again what is recorded."),
    ] = False,
    timing_only: Annotated[
        bool,
        typer.Option(
            "--timing-only",
            envvar="ATTNBENCH_TIMING_ONLY",
            help="Time what is recorded from several --workers again, alone.",
        ),
    ] = False,
    data: options.Data = None,
    records: options.Records = Path("records"),
    untrained: Annotated[
        bool,
        typer.Option(
            "--untrained",
            envvar="ATTNBENCH_UNTRAINED",
            help="Backbones without weights: for counting and timing.",
        ),
    ] = False,
    progress: Annotated[
        ProgressStyle,
        typer.Option(
            envvar="ATTNBENCH_PROGRESS",
            help="On stderr: bars (auto: on a terminal), lines, or a JSON object for each event.",
        ),
    ] = ProgressStyle.auto,
    as_json: Annotated[
        bool,
        typer.Option("--json", envvar="ATTNBENCH_JSON", help="One JSON object a row on stdout."),
    ] = False,
) -> None:
    """Evaluate submissions: detection, parameters, time.

    Says how well each detects, how much it adds and how long it takes to adapt, in a table, and
    writes a record per submission, task, backbone and seed. A second run of the same thing is
    free; an interrupted one resumes.
    """
    if timeout is not None and not 0 < timeout < float("inf"):
        raise typer.BadParameter("must be a positive number of seconds", param_hint="--timeout")

    from attnbench.cli.progress import display
    from attnbench.cli.report import any_failed, print_json, print_report
    from attnbench.runs import run

    with display(progress.value, sys.stderr) as show:
        frame = run.evaluate(
            submissions,
            track=track.value,
            tasks=task or None,
            backbone=backbone,
            device=device.value,
            seeds=seeds,
            engine=engine.value,
            workers=workers,
            address=address,
            isolation=isolation.value,
            timeout=timeout,
            fresh=fresh,
            timing_only=timing_only,
            data=data,
            records=records,
            untrained=untrained,
            on_event=show,
        )
    if as_json:
        print_json(frame)
    else:
        print_report(frame)
    if any_failed(frame):
        raise typer.Exit(1)
