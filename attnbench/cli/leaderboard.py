"""`attnbench leaderboard`: build the leaderboard as a page, a site, plots and tables."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli import options
from attnbench.cli.spinner import spinner


def leaderboard(
    out: Annotated[
        Path,
        typer.Option(
            envvar="ATTNBENCH_OUT", metavar="FILE", dir_okay=False, help="The file to write."
        ),
    ] = Path("leaderboard.md"),
    records: Annotated[
        list[Path] | None,
        options.record_folders(
            "(default: published; the site, the plots and the exports also use records)"
        ),
    ] = None,
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
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="ATTNBENCH_DATA",
            metavar="DIR",
            file_okay=False,
            help="The data folder. The site shows people beside methods if their trials are in it.",
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
    """Build the leaderboard from the published records.

    The site, plots and exports also show your own records, and the site marks them. The same
    records always give the same bytes.
    """
    if check and (site or plots or export):
        raise typer.BadParameter(
            "writes nothing: leave out --site, --plots and --export", param_hint="--check"
        )
    from attnbench.commands.leaderboard import build_leaderboard
    from attnbench.records.folders import folders_to_read
    from attnbench.text import printable
    from attnbench.vocabulary import PUBLISHED_FOLDER, RECORDS_FOLDER

    folders = folders_to_read(records, (PUBLISHED_FOLDER, RECORDS_FOLDER))
    if not (records or site or plots or export):
        folders = folders[:1]  # the page needs the published records only
    with spinner(f"reading the records of {' and '.join(map(str, folders))}"):
        board = build_leaderboard(folders, data if site is not None else None)
    for problem in board.problems:
        typer.echo(f"skipped: {printable(problem)}", err=True)
    if check:
        if not board.is_up_to_date(out):
            typer.echo(
                f"{out} is not up to date with its records; rebuild it with: "
                + shlex.join(["attnbench", "leaderboard", *_given(records), "--out", str(out)]),
                err=True,
            )
            raise typer.Exit(1)
        typer.echo(f"{out} is up to date ({board.listed} records)")
        return
    board.write_page(out)
    typer.echo(f"{out}: {board.listed} records")
    if site is not None:
        with spinner("drawing plots, and writing the site"):
            count = board.write_site(site)
        typer.echo(f"{site / 'index.html'}: a site of {count} files")
    if plots is not None:
        with spinner("drawing plots"):
            count = board.write_plots(plots)
        typer.echo(f"{plots}: {count} plot files")
    if export is not None:
        with spinner("writing tables"):
            count = board.write_tables(export)
        typer.echo(f"{export}: {count} tables and descriptions")


def _given(records: list[Path] | None) -> list[str]:
    return [word for folder in records or () for word in ("--records", str(folder))]
