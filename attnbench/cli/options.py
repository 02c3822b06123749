"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path | None,
    typer.Option(
        envvar="ATTNBENCH_DATA",
        metavar="DIR",
        help="A folder whose sub-folders stand in for hub datasets.",
    ),
]
Records = Annotated[
    Path,
    typer.Option(envvar="ATTNBENCH_RECORDS", metavar="DIR", help="Where records are kept."),
]
OneObject = Annotated[
    bool, typer.Option("--json", envvar="ATTNBENCH_JSON", help="One JSON object on stdout.")
]
