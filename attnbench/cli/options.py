"""Options that several verbs share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class DeviceName(StrEnum):
    """Where detectors are adapted and used."""

    cpu = "cpu"
    cuda = "cuda"


Device = Annotated[DeviceName, typer.Option(envvar="ATTNBENCH_DEVICE", help="Where to run.")]

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
