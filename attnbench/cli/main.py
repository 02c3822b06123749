"""The command line: `attnbench VERB …`, one verb per file beside this one.

Nothing here or at the top of those files imports torch, pandas or pydantic, so that `--help`
answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from attnbench import __version__
from attnbench.cli import check, compare, evaluate, leaderboard, new, status, tasks, verify
from attnbench.errors import AttnbenchError

USAGE_OR_DATA = 2
INTERRUPTED = 130

app = typer.Typer(
    name="attnbench",
    help="The same judge for every way of re-purposing a trained vision network for a new target.",
    epilog="Exit codes: 0 all well; 1 a check failed or a submission has failure rows; "
    "2 wrong usage, or data that is not there.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich doubles the time of --help
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"attnbench {__version__}")
        raise typer.Exit


@app.callback()
def _version(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """What stands before the verb."""


app.command("evaluate")(evaluate.evaluate)
app.command("status")(status.status)
app.command("tasks")(tasks.tasks)
app.command("new")(new.new)
app.command("check")(check.check)
app.command("compare")(compare.compare)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("verify")(verify.verify)


def main() -> None:
    """Run the command line; ends the process with the exit code of DESIGN.md."""
    try:
        app(prog_name="attnbench")
    except AttnbenchError as error:
        print(f"attnbench: {error}", file=sys.stderr)
        sys.exit(USAGE_OR_DATA)
    except KeyboardInterrupt:
        _exit_interrupted()
    except SystemExit as end:
        if end.code == INTERRUPTED:  # how typer ends a command on Ctrl-C
            _exit_interrupted()
        raise


def _exit_interrupted() -> None:
    print(
        "attnbench: interrupted; the same command resumes where it stopped",
        file=sys.stderr,
    )
    sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
