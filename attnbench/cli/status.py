"""`attnbench status`: the progress of the runs that write into a records folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.cli import options

if TYPE_CHECKING:
    from attnbench.runs.status_file import RunState


def status(
    records: options.Records = Path("records"),
    as_json: Annotated[
        bool,
        typer.Option("--json", envvar="ATTNBENCH_JSON", help="Print one JSON object per run."),
    ] = False,
) -> None:
    """Show the progress of running evaluations.

    Shows the episodes done per task, the failures so far and the time left. It works in another
    terminal, and on another machine that sees the records folder.
    """
    from attnbench.runs.status_file import status as read_status

    runs = read_status(records)
    if as_json:
        import json

        for run in runs:
            state = run.model_dump(mode="json")
            print(json.dumps(state | {"alive": run.is_alive, "seconds_left": run.seconds_left}))
    elif not runs:
        where = "" if records.is_dir() else ", which is not a folder"
        print(f"no evaluation is writing into {records}{where}")
    else:
        for run in runs:
            print("\n".join(_lines(run)))


def _lines(run: RunState) -> list[str]:
    from attnbench.text import duration, printable

    total, left = run.total, run.seconds_left
    names = ", ".join(printable(name, 40) for name in run.submissions[:3])
    more = f" and {len(run.submissions) - 3} more" if len(run.submissions) > 3 else ""
    lines = [
        f"{names}{more} ({printable(run.engine, 20)} engine, process {run.process} on "
        f"{printable(run.host, 60)})",
        f"  {total.done} of {total.total} episodes"
        + (f", {total.failed} failed" if total.failed else "")
        + (f", {duration(left)} left" if left is not None and run.is_alive is not False else ""),
    ]
    if run.is_alive is False:
        lines.append("  its process has ended unexpectedly: run the same command to resume")
    width = max((len(printable(name, 40)) for name in run.tasks), default=0)
    for name, task in run.tasks.items():
        failed = f", {task.failed} failed" if task.failed else ""
        lines.append(f"    {printable(name, 40):{width}}  {task.done} of {task.total}{failed}")
    return lines
