"""`attnbench status`: how far the runs into a records folder are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.cli import options

if TYPE_CHECKING:
    from attnbench.runs.announcing import RunState


def status(
    records: options.Records = Path("records"),
    as_json: Annotated[
        bool,
        typer.Option("--json", envvar="ATTNBENCH_JSON", help="One JSON object a run on stdout."),
    ] = False,
) -> None:
    """Say how far the evaluations under way are.

    For another terminal, or another machine that sees the records folder: episodes done by task,
    failures so far, time left.
    """
    from attnbench.runs import announcing

    runs = announcing.status(records)
    if as_json:
        import json

        for run in runs:
            about = run.model_dump(mode="json")
            print(json.dumps(about | {"alive": run.is_alive, "seconds_left": run.seconds_left}))
    elif not runs:
        print(f"no evaluation writes into {records}")
    else:
        for run in runs:
            print("\n".join(_lines(run)))


def _lines(run: RunState) -> list[str]:
    from attnbench.cli.text import duration, printable

    whole, left = run.whole, run.seconds_left
    names = ", ".join(printable(name, 40) for name in run.submissions[:3])
    more = f" and {len(run.submissions) - 3} more" if len(run.submissions) > 3 else ""
    lines = [
        f"{names}{more} ({printable(run.engine, 20)} engine, process {run.process} on "
        f"{printable(run.host, 60)})",
        f"  {whole.done} of {whole.total} episodes"
        + (f", {whole.failed} failed" if whole.failed else "")
        + (f", {duration(left)} left" if left is not None and run.is_alive is not False else ""),
    ]
    if run.is_alive is False:
        lines.append("  it has ended without a word: the same command resumes it")
    width = max((len(printable(name, 40)) for name in run.tasks), default=0)
    for name, task in run.tasks.items():
        failed = f", {task.failed} failed" if task.failed else ""
        lines.append(f"    {printable(name, 40):{width}}  {task.done} of {task.total}{failed}")
    return lines
