"""Tutorials that run: the files, commands and outputs of a page, from top to bottom.

A block `sh` is a list of commands. A block `text` right after it is their output. A block with a title,
such as ```` ```python title="my-method/submission.py" ````, is a file that the reader writes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"^```(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
# The width of the terminal. Times, which differ between runs, do not fit into tables of this width.
_COLUMNS = "60"
# What `evaluate` says on a machine that does other work meanwhile.
_BUSY = re.compile(r"^–: no times.*?(?=^Records?:)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """A block of commands of a page, after files were written.

    Attributes:
        files: the texts of the files to write first, by path.
        commands: lines for a shell; empty for files after which nothing is run.
        shown: the output on the page, or None if the page shows none.
        span: where the shown output is in the page.
    """

    files: dict[str, str]
    commands: str
    shown: str | None
    span: tuple[int, int]


def steps(text: str) -> Iterator[Step]:
    """Yield the steps of a page.

    Args:
        text: the page in Markdown.
    """
    blocks = list(_BLOCK.finditer(text))
    files: dict[str, str] = {}
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block["title"]:
            files[block["title"]] = block["body"]
        elif block["kind"] == "sh":
            follows = (
                after and after["kind"] == "text" and not text[block.end() : after.start()].strip()
            )
            shown, span = (
                (after["body"], after.span("body")) if after and follows else (None, (0, 0))
            )
            yield Step(files, block["body"], shown, span)
            files = {}


def run(step: Step, folder: Path) -> str:
    """Write the files of a step, run its commands, and return what they print to standard output.

    A note that the machine was busy is left out.

    Args:
        step: the step.
        folder: the working directory.

    Raises:
        RuntimeError: if a command fails. The message has its standard error.
    """
    for name, content in step.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    # The programs of this environment come first, as in one that the reader has activated.
    search_path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {k: v for k, v in os.environ.items() if not k.startswith("ATTNBENCH_")}
    cache = {k: v for k, v in os.environ.items() if k == "ATTNBENCH_CACHE"}
    done = subprocess.run(
        ["bash", "-e", "-c", step.commands],
        cwd=folder,
        env=variables | cache | {"PATH": search_path, "COLUMNS": _COLUMNS},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{step.commands}{done.stderr}")
    return _BUSY.sub("", done.stdout)


def with_outputs(text: str, folder: Path) -> str:
    """Run a page, and return it with the outputs that its commands have now.

    Args:
        text: the page in Markdown.
        folder: the working directory; empty.
    """
    parts, end = [], 0
    for step in steps(text):
        output = run(step, folder)
        if step.shown is not None:
            start, stop = step.span
            lines = [line.rstrip() for line in output.rstrip().splitlines()]
            parts += [text[end:start], "\n".join(lines), "\n"]
            end = stop
    return "".join([*parts, text[end:]])
