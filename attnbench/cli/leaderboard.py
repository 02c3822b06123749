"""`attnbench leaderboard`: the leaderboard from the records, as a page, a site, plots and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnbench.cli import options

if TYPE_CHECKING:
    from attnbench.leaderboard.entries import Entry
    from attnbench.leaderboard.standings import Standings


def leaderboard(
    out: Annotated[
        Path, typer.Option(envvar="ATTNBENCH_OUT", metavar="FILE", help="Where to write it.")
    ] = Path("leaderboard.md"),
    records: options.Records = Path("records"),
    site: Annotated[
        Path | None,
        typer.Option(
            envvar="ATTNBENCH_SITE",
            metavar="DIR",
            help="Build a static site as well: open its index.html, or publish the folder.",
        ),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            envvar="ATTNBENCH_PLOTS", metavar="DIR", help="Write the plots as SVG and PNG as well."
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            envvar="ATTNBENCH_EXPORT",
            metavar="DIR",
            help="Write all figures as CSV and Parquet as well.",
        ),
    ] = None,
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
    from attnbench.leaderboard.entries import read_entries, require_folder
    from attnbench.leaderboard.markdown import markdown_of
    from attnbench.leaderboard.standings import standings_by_track

    if check and (site or plots or export):
        raise typer.BadParameter(
            "writes nothing: leave out --site, --plots and --export", param_hint="--check"
        )
    require_folder(records)
    entries, problems = read_entries(records)
    for problem in problems:
        typer.echo(f"left out: {printable(problem)}", err=True)
    badges = {entry.record.identity: entry.badge for entry in entries}
    tracks = standings_by_track([entry.record for entry in entries], badges)
    newest = max((entry.record.created for entry in entries), default="")
    content = markdown_of(tracks, newest).encode()
    if check:
        if not out.is_file() or out.read_bytes() != content:
            typer.echo(
                f"{out} is not what {records} says; build it with: "
                f"attnbench leaderboard --records {records} --out {out}",
                err=True,
            )
            raise typer.Exit(1)
        typer.echo(f"{out} is up to date ({len(entries)} records)")
        return
    try:
        out.write_bytes(content)
    except OSError as error:
        raise AttnbenchError(f"{out} cannot be written: {error.strerror}") from None
    typer.echo(f"{out}: {len(entries)} records")
    _write_more(entries, tracks, site, plots, export)


def _write_more(
    entries: Sequence[Entry],
    tracks: Mapping[str, Standings],
    site: Path | None,
    plots: Path | None,
    export: Path | None,
) -> None:
    from attnbench.leaderboard.exports import exported, write_files

    if site is not None:
        from attnbench.leaderboard.site.building import write_site

        number = write_site(site, entries, tracks)
        typer.echo(f"{site / 'index.html'}: {number} files of the site")
    if plots is not None:
        from attnbench.leaderboard.plotting import plot_files

        typer.echo(f"{plots}: {write_files(plots, plot_files(entries, tracks))} files of plots")
    if export is not None:
        typer.echo(f"{export}: {write_files(export, exported(entries, tracks))} files of figures")
