"""`attnbench leaderboard`: the leaderboard from the records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli import options


def leaderboard(
    out: Annotated[
        Path, typer.Option(envvar="ATTNBENCH_OUT", metavar="FILE", help="Where to write it.")
    ] = Path("leaderboard.md"),
    records: options.Records = Path("records"),
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            envvar="ATTNBENCH_CHECK",
            help="Write nothing; fail if the file is not what the records say.",
        ),
    ] = False,
) -> None:
    """Build the leaderboard from the records.

    The same records give the same bytes.
    """
    from attnbench.cli.text import printable
    from attnbench.errors import AttnbenchError
    from attnbench.leaderboard.markdown import leaderboard_markdown
    from attnbench.records.store import RecordStore
    from attnbench.records.verification import badge_of

    if not records.is_dir():
        raise AttnbenchError(
            f"{records} is not a folder; `attnbench evaluate` writes records, --records says where"
        )
    loaded, problems = RecordStore(records).load_all()
    for problem in problems:
        typer.echo(f"left out: {printable(problem)}", err=True)
    badges = {record.identity: badge_of(path, record) for path, record in loaded}
    content = leaderboard_markdown([record for _, record in loaded], badges).encode()
    if check:
        if not out.is_file() or out.read_bytes() != content:
            typer.echo(
                f"{out} is not what {records} says; build it with: "
                f"attnbench leaderboard --records {records} --out {out}",
                err=True,
            )
            raise typer.Exit(1)
        typer.echo(f"{out} is up to date ({len(loaded)} records)")
        return
    try:
        out.write_bytes(content)
    except OSError as error:
        raise AttnbenchError(f"{out} cannot be written: {error.strerror}") from None
    typer.echo(f"{out}: {len(loaded)} records")
