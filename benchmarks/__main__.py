"""Benchmarks: run them, put what they measured into the docs, set it beside what there was.

python -m benchmarks run [--out FILE] [PYTEST ARGUMENTS]
python -m benchmarks report [--check]
python -m benchmarks compare FILE
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import pytest
import typer

from attnbench.errors import AttnbenchError
from benchmarks.measured import RESULTS, compared, keep, read, results_of, table

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

app = typer.Typer(help=__doc__, add_completion=False, no_args_is_help=True)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Where results go, beside those of others.")] = RESULTS,
) -> None:
    """Run benchmarks, all or those that pytest's arguments choose, and keep what they measured."""
    read(out)  # a file that holds something else is told before anything is measured
    chosen = context.args
    if not any(Path(each.split("::")[0]).exists() for each in chosen):
        chosen = [str(Path(__file__).parent), *chosen]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = ["-m", "", "--timeout", "0", "-s", "--benchmark-enable", "--benchmark-json"]
        status = pytest.main([*chosen, *options, str(report)])
        if report.exists() and report.stat().st_size:
            keep(results_of(json.loads(report.read_text("utf-8"))), out)
    raise typer.Exit(int(status))


@app.command()
def report(
    check: Annotated[bool, typer.Option(help="Only say whether the page is up to date.")] = False,
) -> None:
    """Write the tables of docs/performance.md from the results."""
    before = PAGE.read_text("utf-8")
    after = with_tables(before)
    if not check:
        PAGE.write_text(after, "utf-8")
    elif before != after:
        typer.echo("docs/performance.md is stale: python -m benchmarks report", err=True)
        raise typer.Exit(1)


def with_tables(page: str) -> str:
    """The page with each table between `<!-- benchmarks: NAME -->` and `<!-- end -->` as it is now."""
    results = read(RESULTS)

    def filled(found: re.Match[str]) -> str:
        return f"{found[1]}\n{table(found[2], results)}\n{found[3]}"

    marks = r"(<!-- benchmarks: ([^>]+) -->)\n.*?(<!-- end -->)"
    return re.sub(marks, filled, page, flags=re.DOTALL)


@app.command()
def compare(results: Path) -> None:
    """Set results beside the committed ones; fails where one is worse by more than its noise."""
    lines = compared(read(results), read(RESULTS))
    for line, _ in lines:
        typer.echo(line)
    if not lines:
        typer.echo(f"{results} has nothing to compare with {RESULTS.name}", err=True)
        raise typer.Exit(2)
    raise typer.Exit(int(any(worse for _, worse in lines)))


if __name__ == "__main__":
    try:
        app()
    except AttnbenchError as error:
        typer.echo(error, err=True)
        sys.exit(2)
