"""`attnbench records show RECORD`: what a record says, and the pictures that were missed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.cli import options

if TYPE_CHECKING:
    from attnbench.records.record import Record

app = typer.Typer(no_args_is_help=True, help="Look into records.", rich_markup_mode=None)


@app.callback()
def _records() -> None:
    """Look into records."""


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
) -> None:
    """Show a record: its targets with their hits and false alarms.

    With --errors, also draw the pictures that the detectors got wrong with the most extreme scores.
    """
    from attnbench.records.store import RecordStore

    _print_record(RecordStore(record.parent).read(record))
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
