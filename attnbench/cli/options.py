"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from attnbench.vocabulary import DeviceKind, EngineName, IsolationLevel, ProgressStyle

Track = Annotated[
    str | None,
    typer.Option(
        envvar="ATTNBENCH_TRACK",
        metavar="NAME",
        help="The scale of the tasks: mini, small, full, or a track of your task file. "
        "(default: mini, or the only track of the task)",
    ),
]
Tracks = Annotated[
    list[str] | None,
    typer.Option(
        envvar="ATTNBENCH_TRACK",
        metavar="NAME",
        help="The scale of the tasks: mini, small, full, or a track of your task file; may be "
        "repeated. (default: mini, or the only track of the task)",
    ),
]
Device = Annotated[
    DeviceKind, typer.Option(envvar="ATTNBENCH_DEVICE", help="The device to run on.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        envvar="ATTNBENCH_DATA",
        metavar="DIR",
        file_okay=False,
        help="A folder whose sub-folders replace data sets of the hub.",
    ),
]
Records = Annotated[
    Path,
    typer.Option(
        envvar="ATTNBENCH_RECORDS", metavar="DIR", file_okay=False, help="The folder of records."
    ),
]
_SUBMISSIONS = typer.Argument(
    metavar="SUBMISSION",
    help="Folders, or names of shipped submissions.",
    show_default=False,
)
Submissions = Annotated[list[str], _SUBMISSIONS]
OptionalSubmissions = Annotated[list[str] | None, _SUBMISSIONS]
Untrained = Annotated[
    bool,
    typer.Option(
        "--untrained",
        envvar="ATTNBENCH_UNTRAINED",
        help="Use the backbone without trained weights, which needs no data.",
    ),
]
Audit = Annotated[
    bool,
    typer.Option(
        "--audit",
        envvar="ATTNBENCH_AUDIT",
        help="Judge the submission on images of a secret seed, drawn now, and compare.",
    ),
]
Sample = Annotated[
    int | None,
    typer.Option(
        envvar="ATTNBENCH_SAMPLE",
        min=1,
        metavar="K",
        help="Run only this many targets of each record, drawn at random. (default: all)",
    ),
]
TaskFile = Annotated[
    str | None,
    typer.Option(
        envvar="ATTNBENCH_TASK",
        metavar="NAME|FILE",
        help="The task of the record. (default: the task of that name, or NAME.toml here)",
    ),
]
RecordedBackbone = Annotated[
    str | None,
    typer.Option(
        envvar="ATTNBENCH_BACKBONE",
        metavar="FILE",
        help="The backbone.toml or FILE.py:FUNCTION of a record of your own backbone.",
    ),
]
Seeds = Annotated[
    int,
    typer.Option(envvar="ATTNBENCH_SEEDS", min=1, metavar="N", help="Number of seeds: 0 to N - 1."),
]
Engine = Annotated[
    EngineName,
    typer.Option(envvar="ATTNBENCH_ENGINE", help="The engine that runs the episodes."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        envvar="ATTNBENCH_WORKERS",
        min=1,
        metavar="N",
        help="Episodes that run at a time. If several share a CPU, their times are excluded "
        "from the leaderboard. (default: one, or one per GPU or node)",
    ),
]
Isolation = Annotated[
    IsolationLevel,
    typer.Option(envvar="ATTNBENCH_ISOLATION", help="How submissions are isolated."),
]
Fresh = Annotated[
    bool,
    typer.Option("--fresh", envvar="ATTNBENCH_FRESH", help="Make existing records again."),
]
Progress = Annotated[
    ProgressStyle,
    typer.Option(
        envvar="ATTNBENCH_PROGRESS",
        help="Progress on stderr: bars, lines, or a JSON object per event. auto shows bars on "
        "a terminal and lines elsewhere.",
    ),
]
Submission = Annotated[
    str,
    typer.Argument(metavar="SUBMISSION", help="A folder, or the name of a shipped submission."),
]
OneTask = Annotated[
    str,
    typer.Option(envvar="ATTNBENCH_TASK", metavar="NAME|FILE", help="A task, or a task file."),
]
Seed = Annotated[
    int, typer.Option(envvar="ATTNBENCH_SEED", metavar="N", help="The seed of the episode.")
]
TriedBackbone = Annotated[
    str | None,
    typer.Option(
        envvar="ATTNBENCH_BACKBONE",
        metavar="NAME|FILE",
        help="The backbone to adapt, as for evaluate. (default: the first of the task)",
    ),
]
OtherBackbone = Annotated[
    str | None,
    typer.Option(
        envvar="ATTNBENCH_BACKBONE",
        metavar="NAME|FILE",
        help="A backbone to use instead of the task's own.",
    ),
]
OneObject = Annotated[
    bool, typer.Option("--json", envvar="ATTNBENCH_JSON", help="Print one JSON object.")
]


def record_folders(text: str) -> Any:
    """Return an option that names folders of records and may be repeated.

    Args:
        text: what the help says beyond that, such as the default.
    """
    return typer.Option(
        envvar="ATTNBENCH_RECORDS",
        metavar="DIR",
        file_okay=False,
        help=f"A folder of records; may be repeated. {text}",
    )


def check_plot(plot: Path | None) -> None:
    """Raise typer.BadParameter if a plot is not an SVG or PNG file."""
    if plot is not None and plot.suffix not in (".svg", ".png"):
        raise typer.BadParameter("the file must end in .svg or .png", param_hint="--plot")
