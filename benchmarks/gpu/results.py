"""The results of a run: a JSON file for each part, and tables of them in Markdown."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pydantic
import torch

from attnbench.errors import AttnbenchError
from attnbench.files import write_atomically
from attnbench.judge.environment import processor_name
from attnbench.text import printable
from attnbench.version import __version__
from attnbench.vocabulary import DeviceKind
from benchmarks.measured import Figure, Machine, Result, table

_OUTCOMES = {
    "running": "This part has not ended.",
    "done": "All of it was measured.",
    "out of time": "Its time did not suffice for all of it.",
}


class Failure(pydantic.BaseModel, frozen=True, extra="forbid"):
    """An item that could not be measured.

    Attributes:
        item: its name.
        reason: why, in one line.
        traceback: of the exception; empty without one.
    """

    item: str
    reason: str
    traceback: str


class PartResult(pydantic.BaseModel, frozen=True, extra="forbid"):
    """The result of a part, complete or not.

    Attributes:
        part: its name.
        title: what it asks.
        status: whether it has ended, and how.
        day: date of the measurement in UTC, such as `2026-01-31`.
        machine: the device, and the versions of what ran on it.
        seconds: how long it has taken so far.
        figures: what was measured.
        remarks: what is no figure, one line each.
        failures: what could not be measured.
        not_reached: the items that there was no time for.
    """

    part: str
    title: str
    status: Literal["running", "done", "out of time"]
    day: str
    machine: Machine
    seconds: float
    figures: tuple[Figure, ...] = ()
    remarks: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    not_reached: tuple[str, ...] = ()


def machine_with(device: DeviceKind) -> Machine:
    """Describe this machine, with the GPU's name first if that is what is measured."""
    packages = {
        "torch": torch.__version__,
        "attnbench": __version__,
    }
    name = processor_name()
    if device == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        name = f"{torch.cuda.get_device_name()} ({memory:.0f} GiB) beside {name}"
        packages["CUDA"] = str(torch.version.cuda)
        if driver := nvidia_smi("driver_version"):
            packages["driver"] = driver
    return Machine(
        processor=name,
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        packages=packages,
    )


def nvidia_smi(fields: str) -> str:
    """Return what `nvidia-smi` says about the first GPU; empty if it says nothing.

    Args:
        fields: separated by commas, such as `clocks.sm,temperature.gpu`.
    """
    line = ["nvidia-smi", "-i", "0", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def write(folder: Path, result: PartResult) -> None:
    """Write the result of a part, and the tables of all parts that are in the folder."""
    content = result.model_dump_json(indent=1).encode() + b"\n"
    write_atomically(folder / f"{result.part}.json", content, folder)
    write_atomically(folder / "summary.md", summary(read(folder)).encode(), folder)


def read(folder: Path) -> list[PartResult]:
    """Read the results in a folder, in the order of the parts' titles.

    Raises:
        AttnbenchError: if there are none, or a file contains something else.
    """
    results = []
    for path in folder.glob("*.json"):
        try:
            results.append(PartResult.model_validate_json(path.read_bytes()))
        except (OSError, pydantic.ValidationError):
            raise AttnbenchError(
                f"{path} is not a result of this command; name a folder that "
                "`python -m benchmarks gpu --out` has written"
            ) from None
    if not results:
        raise AttnbenchError(
            f"there are no results in {folder}; measure with `python -m benchmarks gpu --out {folder}`"
        )
    return sorted(results, key=lambda result: result.title)


def summary(results: Iterable[PartResult]) -> str:
    """Return the tables of some parts in Markdown, each under a heading."""
    return "\n".join(_section(result) for result in results)


def _section(result: PartResult) -> str:
    lines = [f"### {result.title}", ""]
    if result.figures:
        measured = Result(
            benchmark=result.part,
            table=result.part,
            day=result.day,
            machine=result.machine,
            figures=result.figures,
        )
        lines += [table(result.part, [measured]), ""]
    else:
        lines += [f"On {result.machine}; {result.day}.", ""]
    lines += [f"{_OUTCOMES[result.status]} It took {result.seconds:.0f} s.", ""]
    lines += [f"- {_escaped(remark)}" for remark in result.remarks]
    lines += [
        f"- {failure.item}: **failed**: {_escaped(failure.reason)}" for failure in result.failures
    ]
    if result.not_reached:
        lines.append(f"- Not reached: {', '.join(result.not_reached)}.")
    return "\n".join(lines).rstrip() + "\n"


def _escaped(text: str) -> str:
    """Return a line of text in which Markdown finds no markup and no end of the results."""
    return re.sub(r"([<>|*\[\]])", r"\\\1", printable(text))


PAGE = Path(__file__).parents[2] / "docs" / "measurements.md"
BEGIN, END = "<!-- gpu -->", "<!-- end -->"


def with_results(page: str, results: Iterable[PartResult]) -> str:
    """Replace what is between the markers of a page with the tables of some results."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{summary(results)}{END}{after}"
