"""Benchmarks of attnbench: run them, put the results into the documentation, compare results.

python -m benchmarks run [--out FILE] [PYTEST ARGUMENTS]
python -m benchmarks report [--check]
python -m benchmarks compare FILE
python -m benchmarks gpu --out DIR
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
from benchmarks.gpu.command import main as main_of_gpu
from benchmarks.measured import RESULTS, compared, keep, read, results_of, table

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "docs" / "performance.md", ROOT / "benchmarks" / "notes" / "adaptation.md")

app = typer.Typer(help=__doc__, add_completion=False, no_args_is_help=True)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Results file, to which results are added.")] = RESULTS,
) -> None:
    """Run all benchmarks, or those that pytest arguments select, and store their results."""
    read(out)  # Report a file with other contents before anything is measured.
    arguments = context.args
    if not any(Path(argument.split("::")[0]).exists() for argument in arguments):
        arguments = [str(Path(__file__).parent), *arguments]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = ["-m", "", "--timeout", "0", "-s", "--benchmark-enable", "--benchmark-json"]
        status = pytest.main([*arguments, *options, str(report)])
        if report.exists() and report.stat().st_size:
            keep(results_of(json.loads(report.read_text("utf-8"))), out)
    raise typer.Exit(int(status))


@app.command()
def report(
    check: Annotated[
        bool, typer.Option(help="Only check whether the pages are up to date.")
    ] = False,
) -> None:
    """Write the tables in docs/performance.md and in the notes from the results."""
    pages = {page: with_tables(page) for page in PAGES}
    outdated = [page for page, text in pages.items() if page.read_text("utf-8") != text]
    if not check:
        for page in outdated:
            page.write_text(pages[page], "utf-8")
    elif outdated:
        names = " and ".join(str(page.relative_to(ROOT)) for page in outdated)
        typer.echo(f"update {names} with `python -m benchmarks report`", err=True)
        raise typer.Exit(1)


def with_tables(page: Path) -> str:
    """Return a page with new tables between `<!-- benchmarks: NAME -->` and `<!-- end -->`."""
    results = read(RESULTS)

    def replacement(match: re.Match[str]) -> str:
        return f"{match[1]}\n{table(match[2], results)}\n{match[3]}"

    pattern = r"(<!-- benchmarks: ([^>]+) -->)\n.*?(<!-- end -->)"
    return re.sub(pattern, replacement, page.read_text("utf-8"), flags=re.DOTALL)


@app.command()
def compare(results: Path) -> None:
    """Compare results with the committed ones; fail if one is worse by more than its noise."""
    lines = compared(read(results), read(RESULTS))
    for line, _ in lines:
        typer.echo(line)
    if not lines:
        typer.echo(f"{results} has nothing to compare with {RESULTS.name}", err=True)
        raise typer.Exit(2)
    raise typer.Exit(int(any(worse for _, worse in lines)))


@app.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
def gpu(arguments: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Measure what only a GPU can answer (see `python -m benchmarks gpu --help`)."""
    raise typer.Exit(main_of_gpu(arguments or []))


def main() -> None:
    """Run the command that the arguments of this process name."""
    try:
        app()
    except AttnbenchError as error:
        typer.echo(error, err=True)
        sys.exit(2)
