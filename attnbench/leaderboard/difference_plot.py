"""A plot of paired differences between submissions, in colours that colour-blind readers can tell
apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from attnbench.errors import AttnbenchError
from attnbench.statistics.task_comparison import TaskComparison

# Okabe & Ito's blue and orange.
_D_PRIME_COLOUR, _D_A_COLOUR = "#0072B2", "#E69F00"


def plot_differences(comparisons: Sequence[TaskComparison], path: Path) -> None:
    """Plot the paired differences in d' and d_a with 95 % intervals, a row per pair and task.

    Args:
        comparisons: the comparison on each task.
        path: the file to write; its suffix says the format.

    Raises:
        AttnbenchError: if the file cannot be written, or matplotlib does not know its format.
    """
    rows = [(task, pair) for task in comparisons for pair in task.pairs]
    figure = Figure(figsize=(8, 1.2 + 0.55 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color="0.6", linewidth=1)
    for measure, colour, offset in (
        ("d_prime", _D_PRIME_COLOUR, -0.15),
        ("d_a", _D_A_COLOUR, 0.15),
    ):
        differences = [getattr(pair, measure) for _, pair in rows]
        axes.errorbar(
            [difference.estimate for difference in differences],
            [number + offset for number in range(len(rows))],
            xerr=[
                [max(0.0, difference.estimate - difference.low) for difference in differences],
                [max(0.0, difference.high - difference.estimate) for difference in differences],
            ],
            fmt="o" if measure == "d_prime" else "s",
            color=colour,
            capsize=3,
            label="d′" if measure == "d_prime" else "d_a (unaffected by the criterion)",
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
