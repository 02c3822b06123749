"""`attnbench leaderboard`: build the leaderboard as a page, a site, plots and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli import options


def leaderboard(
    out: Annotated[
        Path,
        typer.Option(
            envvar="ATTNBENCH_OUT", metavar="FILE", dir_okay=False, help="The file to write."
        ),
    ] = Path("leaderboard.md"),
    records: options.Records = Path("records"),
    site: Annotated[
        Path | None,
        typer.Option(
            envvar="ATTNBENCH_SITE",
            metavar="DIR",
            file_okay=False,
            help="Also build a static site: open its index.html, or publish the folder.",
        ),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            envvar="ATTNBENCH_PLOTS",
            metavar="DIR",
            file_okay=False,
            help="Also write the plots as SVG and PNG.",
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            envvar="ATTNBENCH_EXPORT",
            metavar="DIR",
            file_okay=False,
            help="Also write all results as CSV and Parquet.",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            envvar="ATTNBENCH_CHECK",
            help="Write nothing; fail if the file is not up to date with the records.",
        ),
    ] = False,
) -> None:
    """Build the leaderboard from the records.

    The same records always give the same bytes.
    """
    if check and (site or plots or export):
        raise typer.BadParameter(
            "writes nothing: leave out --site, --plots and --export", param_hint="--check"
        )
    from attnbench.commands.leaderboard import build_leaderboard
    from attnbench.text import printable

    board = build_leaderboard(records)
    for problem in board.problems:
        typer.echo(f"skipped: {printable(problem)}", err=True)
    if check:
        if not board.is_up_to_date(out):
            typer.echo(
                f"{out} is not up to date with {records}; rebuild it with: "
                f"attnbench leaderboard --records {records} --out {out}",
                err=True,
            )
            raise typer.Exit(1)
        typer.echo(f"{out} is up to date ({len(board.entries)} records)")
        return
    board.write_page(out)
    typer.echo(f"{out}: {len(board.entries)} records")
    if site is not None:
        typer.echo(f"{site / 'index.html'}: a site of {board.write_site(site)} files")
    if plots is not None:
        typer.echo(f"{plots}: {board.write_plots(plots)} plot files")
    if export is not None:
        typer.echo(f"{export}: {board.write_tables(export)} tables and descriptions")
