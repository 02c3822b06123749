"""`attnbench publish SUBMISSION…`: put one's own records on the leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from attnbench.cli import options
from attnbench.cli.audit_report import print_audit
from attnbench.cli.spinner import spinner


def publish(
    submissions: options.OptionalSubmissions = None,
    records: options.Records = Path("records"),
    published: Annotated[
        Path,
        typer.Option(
            envvar="ATTNBENCH_PUBLISHED",
            metavar="DIR",
            file_okay=False,
            help="The folder of published records.",
        ),
    ] = Path("published"),
    out: Annotated[
        Path,
        typer.Option(
            envvar="ATTNBENCH_OUT",
            metavar="FILE",
            dir_okay=False,
            help="The leaderboard to write.",
        ),
    ] = Path("leaderboard.md"),
    hub: Annotated[
        str,
        typer.Option(
            envvar="ATTNBENCH_HUB",
            metavar="OWNER/NAME",
            help="Also upload all published records and their site to the Hugging Face hub.",
        ),
    ] = "",
    audit: options.Audit = False,
    sample: options.Sample = None,
    data: options.Data = None,
) -> None:
    """Publish records, here or on the Hugging Face hub.

    Checks that the records are intact and up to date, and that your work is committed to git. Then
    copies the records to the published ones and rebuilds the leaderboard.

    With --audit, each record is first compared with results on images of a secret seed. The outcome
    is published with it, whatever it is; --sample and --data are for the audit.

    With --hub, the published records become a dataset and a static Space of that name on the Hugging
    Face hub. Log in with `hf auth login` first. Without a submission, nothing else happens.
    """
    if not submissions and not hub:
        raise typer.BadParameter("name one, or use --hub", param_hint="SUBMISSION")
    if sample is not None and not audit:
        raise typer.BadParameter("only an audit has a sample: add --audit", param_hint="--sample")
    if hub:
        from attnbench.commands.publish_on_hub import check_name

        check_name(hub)  # before anything is published
    if submissions:
        _publish(submissions, records, published, out, audit, sample, data)
    if hub:
        _upload(hub, published)


def _publish(
    submissions: Sequence[str],
    records: Path,
    published: Path,
    out: Path,
    audit: bool,
    sample: int | None,
    data: Path | None,
) -> None:
    """Publish records, and print what was done."""
    from attnbench.commands.publish import publish as publish_records
    from attnbench.text import printable

    with spinner("checking records, and building the leaderboard") as show:
        publication = publish_records(
            submissions,
            records=records,
            published=published,
            out=out,
            with_audit=audit,
            sample=sample,
            data=data,
            on_target=lambda target: show(f"running {printable(target, 60)}"),
        )
    for path, outcome in publication.audits.items():
        typer.echo(printable(path))
        print_audit(outcome)
    for name, paths in publication.copied.items():
        count = len(set(paths) & set(publication.replaced))
        typer.echo(
            f"{printable(name)}: {len(paths)} record{'s' * (len(paths) != 1)} copied to {published}"
            + (f", {count} of them in place of earlier ones" if count else "")
        )
    typer.echo(f"{out}: {publication.listed} records")
    if not publication.in_git:
        typer.echo("Outside a git repository: nothing shows whether your work is committed.")


def _upload(repository: str, published: Path) -> None:
    """Upload the published records and their site, and print where they are."""
    from attnbench.commands.publish_on_hub import publish_on_hub

    with spinner("building the site, and uploading it"):
        pages = publish_on_hub(repository, published)
    typer.echo(f"records and tables: {pages.dataset}")
    typer.echo(f"site: {pages.space}")
