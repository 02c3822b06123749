"""The command `python -m benchmarks gpu`, which needs the standard library only until it measures."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.wheels import CannotPack, pack, requirements, unpack

PART_NAMES = ("methods", "timing", "networks", "memory", "bubblewrap", "prediction")

DESCRIPTION = """
Measure what only a GPU can answer, within a given time. Results are written to a folder as they come:
a JSON file for each part, and summary.md with all tables.
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command, and return its exit code: 1 if something failed, 2 for wrong usage.

    Args:
        arguments: those behind `gpu`.
    """
    options = _parser().parse_args(arguments)
    try:
        return _carry_out(options)
    except CannotPack as error:
        return _wrong(str(error))
    except KeyboardInterrupt:
        print("Stopped. What has been measured so far is kept.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks gpu", description=DESCRIPTION)
    does = parser.add_mutually_exclusive_group(required=True)
    does.add_argument(
        "--out", metavar="DIR", type=Path, help="measure, and write the results there"
    )
    does.add_argument(
        "--pack",
        metavar="DIR",
        type=Path,
        help="fetch wheels of what attnbench needs, for a machine with Python and PyTorch, but "
        "without a network",
    )
    does.add_argument(
        "--report",
        metavar="DIR",
        type=Path,
        help="write the tables of results into docs/measurements.md",
    )
    parser.add_argument(
        "--has",
        metavar="NAME",
        nargs="+",
        default=[],
        help="with --pack: packages that the machine has",
    )
    parser.add_argument(
        "--python",
        metavar="VERSION",
        default="3.12",
        help="with --pack: its Python (default: 3.12)",
    )
    parser.add_argument("--packed", metavar="DIR", type=Path, help="use the wheels in this folder")
    parser.add_argument(
        "--minutes", metavar="N", type=float, default=10.0, help="for all parts (default: 10)"
    )
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a short trial"
    )
    parser.add_argument(
        "--part",
        metavar="NAME",
        choices=PART_NAMES,
        nargs="+",
        default=PART_NAMES,
        help=f"measure these parts only: {', '.join(PART_NAMES)}",
    )
    return parser


def _carry_out(options: argparse.Namespace) -> int:
    if options.pack is not None:
        wheels = pack(options.pack, options.python, requirements(options.python, options.has))
        size = sum(wheel.stat().st_size for wheel in wheels) / 2**20
        print(f"{len(wheels)} wheels, {size:.0f} MiB, in {options.pack}. On the other machine:")
        print(f"  python -m benchmarks gpu --packed {options.pack} --out results")
        return 0
    with tempfile.TemporaryDirectory(prefix="attnbench-packages-") as folder:
        if options.packed is not None:
            site = str(unpack(options.packed, Path(folder)))
            sys.path.insert(0, site)
            # For the processes that this one starts.
            inherited = os.environ.get("PYTHONPATH", "")
            os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [site, inherited]))
        try:
            import benchmarks.gpu.run  # noqa: F401
        except ModuleNotFoundError as missing:
            return _wrong(
                f"this machine has no package {missing.name!r}. On a machine with a network, run "
                "`python -m benchmarks gpu --pack DIR`. Copy that folder here, and add `--packed DIR`"
            )
        return _with_packages(options)


def _with_packages(options: argparse.Namespace) -> int:
    """Measure or report, on a machine that has all that is needed."""
    from attnbench.errors import AttnbenchError
    from benchmarks.gpu.results import PAGE, read, with_results
    from benchmarks.gpu.run import PARTS, run

    try:
        if options.report is not None:
            results = read(options.report)
            PAGE.write_text(with_results(PAGE.read_text("utf-8"), results), "utf-8")
            print(f"Wrote the tables of {len(results)} parts into {PAGE}.")
            return 0
        try:
            options.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return _wrong(f"cannot use {options.out} ({error.strerror}); choose another folder")
        if any(options.out.glob("*.json")):
            read(options.out)  # files of another kind would be in the way later
        parts = [part for part in PARTS if part.name in options.part]
        results = run(options.out, parts, options.device, 60 * options.minutes, _tell)
    except AttnbenchError as error:
        return _wrong(str(error))
    print(f"Results: {options.out / 'summary.md'}")
    return int(any(result.failures for result in results))


def _tell(line: str) -> None:
    print(line, flush=True)


def _wrong(message: str) -> int:
    print(message, file=sys.stderr)
    return 2
