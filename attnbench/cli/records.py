"""`attnbench records`: list, show and remove records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.cli import options
from attnbench.cli.audit_report import print_audit
from attnbench.vocabulary import Status

if TYPE_CHECKING:
    from attnbench.records.folders import StoredRecord
    from attnbench.records.record import Record

app = typer.Typer(help="List, show and remove records.", rich_markup_mode=None)

Submission = Annotated[
    str | None,
    typer.Argument(metavar="SUBMISSION", help="Only of this submission.", show_default=False),
]
OneTrack = Annotated[
    str | None,
    typer.Option("--track", envvar="ATTNBENCH_TRACK", metavar="NAME", help="Only on this track."),
]
OneTask = Annotated[
    str | None,
    typer.Option("--task", envvar="ATTNBENCH_TASK", metavar="NAME", help="Only on this task."),
]
OneBackbone = Annotated[
    str | None,
    typer.Option(
        "--backbone", envvar="ATTNBENCH_BACKBONE", metavar="NAME", help="Only on this backbone."
    ),
]
OneSeed = Annotated[
    int | None,
    typer.Option("--seed", envvar="ATTNBENCH_SEED", metavar="N", help="Only with this seed."),
]
OneStatus = Annotated[
    Status | None,
    typer.Option("--status", envvar="ATTNBENCH_STATUS", help="Only with this status."),
]
Outdated = Annotated[
    bool,
    typer.Option(
        "--outdated",
        envvar="ATTNBENCH_OUTDATED",
        help="Only made with another version of the submission than the one here.",
    ),
]


@app.callback(invoke_without_command=True)
def _records(context: typer.Context) -> None:
    """List, show and remove records."""
    if context.invoked_subcommand is None:
        list_()


@app.command("list")
def list_(
    submission: Submission = None,
    records: Annotated[
        list[Path] | None,
        options.record_folders("(default: records)"),
    ] = None,
    track: OneTrack = None,
    task: OneTask = None,
    backbone: OneBackbone = None,
    seed: OneSeed = None,
    status: OneStatus = None,
    outdated: Outdated = False,
    paths: Annotated[
        bool,
        typer.Option(
            "--paths",
            envvar="ATTNBENCH_PATHS",
            help="Print the paths of the records, one per line.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", envvar="ATTNBENCH_JSON", help="Print one JSON object per row.")
    ] = False,
) -> None:
    """List records, with their settings and the versions of attnbench that made them.

    A version is marked with * if the submission has changed since.
    """
    import json

    from attnbench.commands.stored_records import Filter, find_records
    from attnbench.records.folders import folders_to_read
    from attnbench.records.rows import row_of
    from attnbench.text import printable
    from attnbench.vocabulary import PUBLISHED_FOLDER, RECORDS_FOLDER

    folders = folders_to_read(records, (RECORDS_FOLDER,))
    wanted = Filter(submission, task, track, backbone, seed, status, outdated or None)
    found, problems = find_records(folders, wanted)
    for problem in problems:
        typer.echo(f"skipped: {printable(problem)}", err=True)
    if as_json:
        for each in found:
            typer.echo(json.dumps(row_of(each.record, each.path)))
    elif paths:
        for each in found:
            typer.echo(each.path)
    else:
        _print_records(found)
        if not records and Path(PUBLISHED_FOLDER).is_dir():
            typer.echo(f"Published records: attnbench records list --records {PUBLISHED_FOLDER}")


def _print_records(found: list[StoredRecord]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from attnbench.commands.stored_records import is_outdated
    from attnbench.text import printable

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("submission", overflow="fold")
    longest = max((len(each.record.identity.backbone) for each in found), default=0)
    table.add_column("on", overflow="fold", min_width=longest + 1)
    for heading in ("seed", "d′", "version"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in found:
        record, identity = each.record, each.record.identity
        d_prime = record.summary.d_prime
        table.add_row(
            Text(printable(identity.submission)),
            Text(f"{identity.task} ({identity.track}), {identity.backbone}, {identity.device}"),
            str(identity.seed),
            record.status if d_prime is None else f"{d_prime:.2f}",
            printable(record.environment.attnbench, 20) + ("*" if is_outdated(identity) else " "),
        )
    console = Console(highlight=False)
    if found:
        console.print(table)
    console.print(f"{len(found)} record{'s' * (len(found) != 1)}")


@app.command("remove")
def remove(
    submission: Submission = None,
    records: options.Records = Path("records"),
    track: OneTrack = None,
    task: OneTask = None,
    backbone: OneBackbone = None,
    seed: OneSeed = None,
    status: OneStatus = None,
    outdated: Outdated = False,
    everything: Annotated[
        bool,
        typer.Option("--all", envvar="ATTNBENCH_ALL", help="Remove all records of the folder."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", envvar="ATTNBENCH_YES", help="Remove without asking.")
    ] = False,
) -> None:
    """Remove records with their scores.

    Lists the records first, and asks before it removes them.
    """
    from attnbench.commands.stored_records import Filter, find_records, remove_records
    from attnbench.records.folders import folders_to_read

    wanted = Filter(submission, task, track, backbone, seed, status, outdated or None)
    if wanted.is_empty and not everything:
        raise typer.BadParameter(
            "name a submission, add an option such as --task, or add --all", param_hint="SUBMISSION"
        )
    found, _ = find_records(folders_to_read(records), wanted)
    _print_records(found)
    if not found:
        return
    if not yes and not typer.confirm("Remove them?"):
        raise typer.Exit(1)
    remove_records(found)
    typer.echo(f"{records}: removed {len(found)} record{'s' * (len(found) != 1)}")


@app.command("show")
def show(
    record: Annotated[
        Path,
        typer.Argument(
            metavar="RECORD",
            exists=True,
            dir_okay=False,
            help="A record's JSON file; its scores lie beside it.",
        ),
    ],
    errors: Annotated[
        Path | None,
        typer.Option(
            envvar="ATTNBENCH_ERRORS",
            metavar="FILE.png",
            dir_okay=False,
            help="Draw the surest misses and false alarms of each target, with their scores.",
        ),
    ] = None,
    task: options.TaskFile = None,
    backbone: options.RecordedBackbone = None,
    data: options.Data = None,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            envvar="ATTNBENCH_VERBOSE",
            help="Also print full tracebacks of failures, and what the submission printed.",
        ),
    ] = False,
) -> None:
    """Show a record: its targets with their hits and false alarms, and its audit if there is one.

    With --errors, also draw the pictures that the detectors got wrong with the most extreme scores.
    """
    from attnbench.records.audit import read_audit
    from attnbench.records.store import RecordStore

    recorded = RecordStore(record.parent).read(record)
    _print_record(recorded)
    if (audit := read_audit(record)) is not None:
        print_audit(audit)
    if verbose:
        from attnbench.cli.episode_report import episodes_of_record, print_failures, print_output

        episodes = episodes_of_record(recorded, record)
        print_failures(episodes, {}, verbose=True)
        print_output(episodes)
    if errors is not None:
        from attnbench.commands.show_errors import show_errors

        has_errors = show_errors(record, errors, task=task, backbone=backbone, data=data)
        typer.echo(str(errors) if has_errors else "no misses and no false alarms to draw")


def _print_record(record: Record) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from attnbench.text import printable

    identity = record.identity
    typer.echo(
        f"{identity.submission} on {identity.task} ({identity.track}), {identity.backbone}, "
        f"seed {identity.seed}, {identity.device}"
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("target", overflow="fold")
    for heading in ("d′", "hits", "false alarms", "seconds"):
        table.add_column(heading, justify="right")
    for episode in record.episodes:
        name = Text(printable(episode.target))
        if episode.measures is None or episode.cost is None:
            table.add_row(name, "", "", "", "")
            table.add_row(Text(f"  {printable(episode.reason)}"), "", "", "", "")
            continue
        measures = episode.measures
        table.add_row(
            name,
            f"{measures.d_prime:.2f}",
            f"{measures.hits} of {measures.positives}",
            f"{measures.false_alarms} of {measures.negatives}",
            f"{episode.cost.adaptation_seconds:.3f}",
        )
    Console(highlight=False).print(table)
