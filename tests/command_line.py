"""Commands run in this process, which has imported torch already, instead of in a new one."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

from attnbench.cli.main import main


def run(
    *arguments: object,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    typed: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run `attnbench` with these arguments.

    Args:
        arguments: what follows `attnbench` on the command line.
        folder: the working folder; the current one by default.
        environment: variables to add to those of this process.
        typed: what the command reads from its standard input.

    Returns:
        Its exit code and what it printed, as `subprocess.run` returns them.
    """
    line = ["attnbench", *map(str, arguments)]
    output, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with (
        contextlib.chdir(folder or Path.cwd()),
        mock.patch.dict(os.environ, environment or {}),
        mock.patch.multiple(sys, argv=line, stdin=io.StringIO(typed)),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        code = _exit_code()
    printed = []
    for stream in (output, errors):
        stream.flush()
        printed.append(stream.buffer.getvalue().decode("utf-8"))  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(line, code, *printed)


def _exit_code() -> int:
    try:
        main()
    except SystemExit as request:
        return request.code if isinstance(request.code, int) else int(request.code is not None)
    return 0
