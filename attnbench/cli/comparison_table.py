"""The table that `compare` prints: two lines for each pair, the first for d′, the second for d_a."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text
from tabulate import tabulate

from attnbench.text import printable

if TYPE_CHECKING:
    from attnbench.statistics.comparison import Difference
    from attnbench.statistics.consistency import Consistency
    from attnbench.statistics.task_comparison import PairComparison, TaskComparison

_MAX_NAME = 40
_HEADINGS = ("", "difference [95 %]", "p (Holm)", "κ (maximum)")


def print_comparison(comparison: TaskComparison, console: Console) -> None:
    """Print the comparison of submissions on one task: a table and its conclusion.

    Args:
        comparison: the comparison.
        console: where to print. Names that do not fit beside the figures are printed above them.
    """
    names = comparison.task, comparison.track, comparison.backbone
    task, track, backbone = (printable(name, _MAX_NAME) for name in names)
    console.print(Text(f"{task} ({track}), {backbone}", style="bold"))
    lines = _beside(comparison.pairs)
    if max(map(len, lines)) > console.width:
        lines = _above(comparison.pairs)
    console.print(Text("\n".join(lines)), soft_wrap=True)
    console.print(Text(f"{printable(comparison.conclusion, 10_000)}\n"))


def _beside(pairs: tuple[PairComparison, ...]) -> list[str]:
    """Return the lines of the table with the names of a pair beside its figures."""
    rows = []
    for pair in pairs:
        first, second = _figures(pair)
        rows.append((printable(pair.first, _MAX_NAME), *first))
        rows.append((f"− {printable(pair.second, _MAX_NAME)}", *second))
    return _table(rows, ("pair", *_HEADINGS))


def _above(pairs: tuple[PairComparison, ...]) -> list[str]:
    """Return the lines of the table with the names of a pair above its figures."""
    heading, rule, *figures = _table([row for pair in pairs for row in _figures(pair)], _HEADINGS)
    lines = [heading, rule]
    for number, pair in enumerate(pairs):
        lines.append(f"{printable(pair.first, _MAX_NAME)} − {printable(pair.second, _MAX_NAME)}")
        lines += figures[2 * number : 2 * number + 2]
    return lines


def _table(rows: list[tuple[str, ...]], headings: tuple[str, ...]) -> list[str]:
    alignment = ["right" if heading.startswith("p (") else "left" for heading in headings]
    text = tabulate(rows, headings, "simple", colalign=alignment, disable_numparse=True)
    return text.splitlines()


def _figures(pair: PairComparison) -> tuple[tuple[str, ...], tuple[str, ...]]:
    d_prime, d_a = pair.d_prime, pair.d_a
    return (
        ("d′", _difference(d_prime), _p(d_prime.p_holm), f"present {_kappa(pair.present)}"),
        ("d_a", _difference(d_a), _p(d_a.p_holm), f"absent  {_kappa(pair.absent)}"),
    )


def _difference(difference: Difference) -> str:
    return f"{difference.estimate:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _kappa(consistency: Consistency) -> str:
    if consistency.kappa is None:
        return "undefined"
    return f"{consistency.kappa:.2f} ({consistency.largest:.2f})"
