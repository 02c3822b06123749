"""The table that `compare` prints: for each pair the joint difference, then those on each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text
from tabulate import tabulate

from attnbench.text import printable

if TYPE_CHECKING:
    from attnbench.leaderboard.comparison import PairComparison, TrackComparison
    from attnbench.statistics.consistency import Consistency
    from attnbench.statistics.joint_means import Estimate

_MAX_NAME = 40
_HEADINGS = ("d′", "d_a [95 %]", "κ present", "κ absent")
_ALIGNMENT = ("right", "left", "right", "right")


def print_comparison(comparison: TrackComparison, console: Console) -> None:
    """Print the comparison of submissions on one track: a table for each pair, and the conclusion.

    Args:
        comparison: the comparison.
        console: where to print. Names that do not fit beside the figures are printed above them.
    """
    console.print(Text(printable(comparison.name, 200), style="bold"))
    for pair in comparison.pairs:
        title = f"{printable(pair.first, _MAX_NAME)} − {printable(pair.second, _MAX_NAME)}"
        console.print(Text(f"{title}\n" + "\n".join(_lines(pair, console.width))), soft_wrap=True)
    for conclusion in comparison.conclusions:
        console.print(Text(printable(conclusion, 1000)))
    console.print()


def _lines(pair: PairComparison, width: int) -> list[str]:
    """Return the lines of the table of a pair, the joint difference first."""
    tasks = [setting.task for setting in pair.settings]
    names = [
        f"{one.task} {one.backbone.split('/')[-1]}" if tasks.count(one.task) > 1 else one.task
        for one in pair.settings
    ]
    names = [
        printable(name if one.in_mean else f"({name})", _MAX_NAME)
        for name, one in zip(names, pair.settings, strict=True)
    ]
    rows = [
        (f"{one.d_prime.value:+.2f}", _d_a(one.d_a), _kappa(one.present), _kappa(one.absent))
        for one in pair.settings
    ]
    if len(names) > 1:
        names.insert(0, "joint")
        rows.insert(0, (f"{pair.d_prime.value:+.2f}", _d_a(pair.d_a), "", ""))
    beside = _table([(name, *row) for name, row in zip(names, rows, strict=True)], ("", *_HEADINGS))
    if max(map(len, beside)) <= width:
        return beside
    heading, rule, *figures = _table(rows, _HEADINGS)
    above = [line for pair_of_lines in zip(names, figures, strict=True) for line in pair_of_lines]
    return [heading, rule, *above]


def _table(rows: Sequence[tuple[str, ...]], headings: tuple[str, ...]) -> list[str]:
    alignment = _ALIGNMENT if len(headings) == len(_HEADINGS) else ("left", *_ALIGNMENT)
    text = tabulate(rows, headings, "simple", colalign=alignment, disable_numparse=True)
    return text.splitlines()


def _d_a(estimate: Estimate) -> str:
    if estimate.interval is None:
        return f"{estimate.value:+.2f}"
    low, high = estimate.interval
    return f"{estimate.value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _kappa(consistency: Consistency) -> str:
    if consistency.kappa is None:
        return "undefined"
    return f"{consistency.kappa:.2f} ({consistency.largest:.2f})"
