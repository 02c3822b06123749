"""The command line: `attnbench VERB …`, with one file per verb beside this one.

Neither this file nor the top level of a verb's file imports torch, pandas or pydantic, so that
`--help` answers at once. To add a verb, add its file here, its function to `attnbench.commands`, and
its name below.
"""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import typer

from attnbench.cli import (
    check,
    compare,
    curve,
    evaluate,
    explain,
    interference,
    leaderboard,
    new,
    new_task,
    publish,
    records,
    status,
    tasks,
    try_out,
    verify,
)
from attnbench.errors import AttnbenchError
from attnbench.version import __version__

WRONG_USAGE_OR_MISSING_DATA = 2
INTERRUPTED = 130

# The name of the handler of encoding errors, and what it writes for characters that we print.
_SIMILAR = "attnbench-similar"
_REPLACEMENTS = {"′": "'", "−": "-", "–": "-", "κ": "kappa", "…": "...", "→": "->", "µ": "u"}

app = typer.Typer(
    name="attnbench",
    help="Judge methods that re-purpose a trained vision network for a new target.",
    epilog="Exit codes: 0 success; 1 a check or a submission failed; "
    "2 wrong usage or missing data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich doubles the time of --help
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
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
    """Options that come before the verb."""


app.command("evaluate")(evaluate.evaluate)
app.command("status")(status.status)
app.command("tasks")(tasks.tasks)
app.command("try")(try_out.try_)
app.command("new")(new.new)
app.command("new-task")(new_task.new_task)
app.command("check")(check.check)
app.command("compare")(compare.compare)
app.command("curve")(curve.curve)
app.command("explain")(explain.explain)
app.command("interference")(interference.interference)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("verify")(verify.verify)
app.command("publish")(publish.publish)
app.add_typer(records.app, name="records")


def _similar(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks by similar ones, or by question marks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_REPLACEMENTS.get(character, "?") for character in missing), error.end


def main() -> None:
    """Run the command line and end the process with its exit code."""
    codecs.register_error(_SIMILAR, _similar)
    for stream in (sys.stdout, sys.stderr):
        # A terminal without UTF-8 shows d' for d′ and the like. An error would end a finished run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_SIMILAR)
    try:
        _refuse_empty_values(sys.argv)
        app(prog_name="attnbench")
    except AttnbenchError as error:
        print(f"attnbench: {error}", file=sys.stderr)
        sys.exit(WRONG_USAGE_OR_MISSING_DATA)
    except KeyboardInterrupt:
        _exit_interrupted()
    except SystemExit as exit_request:
        if exit_request.code == INTERRUPTED:  # this is how typer ends a command on Ctrl-C
            _exit_interrupted()
        raise


def _refuse_empty_values(arguments: Sequence[str]) -> None:
    """Raise AttnbenchError for an empty value, which as a path would mean the working directory."""
    for before, argument in pairwise(arguments):
        option, equals, value = argument.partition("=")
        has_empty_value = option.startswith("--") and equals and not value
        if argument and not has_empty_value:
            continue
        name = option or before
        what = name if name.startswith("-") else "an argument"
        raise AttnbenchError(
            f"{what} is empty: give it a value, or leave it out. Is a shell variable unset?"
        )


def _exit_interrupted() -> None:
    print(
        "attnbench: interrupted; the same command resumes where it stopped",
        file=sys.stderr,
    )
    sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
