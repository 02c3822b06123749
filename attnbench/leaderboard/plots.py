"""Plots as files, with matplotlib: colours that colour-blind people can tell apart, plain labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from attnbench.errors import AttnbenchError

if TYPE_CHECKING:
    from attnbench.comparing import TaskComparison

# Okabe & Ito's blue and orange.
_D_PRIME, _D_A = "#0072B2", "#E69F00"


def plot_differences(comparisons: Sequence[TaskComparison], path: Path) -> None:
    """Draw the paired differences in d' and d_a with their intervals, a row for each pair and task.

    Raises AttnbenchError where the file cannot be written, or is of a kind matplotlib does not know.
    """
    rows = [(task, pair) for task in comparisons for pair in task.pairs]
    figure = Figure(figsize=(8, 1.2 + 0.55 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color="0.6", linewidth=1)
    for name, colour, offset in (("d_prime", _D_PRIME, -0.15), ("d_a", _D_A, 0.15)):
        found = [getattr(pair, name) for _, pair in rows]
        middle = [each.estimate for each in found]
        axes.errorbar(
            middle,
            [number + offset for number in range(len(rows))],
            xerr=[
                [max(0.0, each.estimate - each.low) for each in found],
                [max(0.0, each.high - each.estimate) for each in found],
            ],
            fmt="o" if name == "d_prime" else "s",
            color=colour,
            capsize=3,
            label="d′" if name == "d_prime" else "d_a (no criterion shift can buy it)",
        )
    labels = [
        f"{pair.first} − {pair.second}\n{task.task}, {task.track}, {task.backbone}"
        for task, pair in rows
    ]
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("paired difference in sensitivity (z units), 95 % interval")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise AttnbenchError(f"{path} cannot be written: {error}") from None
