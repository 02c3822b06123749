"""A plot of interference between adaptations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from attnbench.leaderboard.plot_style import BLUE, INK, ORANGE, Plot, new_figure, styled
from attnbench.records.interference import Interference
from attnbench.statistics.curves import Estimate
from attnbench.text import printable


def interference_plot(found: Sequence[Interference]) -> Plot:
    """Plot the change of d_a on A and on B, and the reference cost, of each submission.

    Args:
        found: at least one, each with adaptations in sequence.
    """
    with styled():
        figure = new_figure(9, 1.6 + 0.42 * len(found))
        lost, gained, reference = figure.subplots(1, 3, sharey=True)
        for similar, colour, marker, offset in (
            (True, BLUE, "o", -0.14),
            (False, ORANGE, "s", 0.14),
        ):
            label = f"{'similar' if similar else 'dissimilar'} targets"
            rows = np.arange(len(found)) + offset
            for axes, estimates in (
                (lost, [each.lost(similar=similar) for each in found]),
                (gained, [each.gained(similar=similar) for each in found]),
            ):
                _draw(axes, rows, estimates, colour, marker, label)
        costs = [_percent(each.reference_cost) for each in found]
        _draw(reference, np.arange(len(found)), costs, INK, "D", "")
        lost.set_yticks(range(len(found)), [printable(each.submission, 30) for each in found])
        lost.invert_yaxis()
        lost.set_xlabel("change of d_a on A by B")
        gained.set_xlabel("change of d_a on B by A")
        reference.set_xlabel("change of top-1 on\nnegatives (points)")
        handles, labels = lost.get_legend_handles_labels()
        figure.legend(handles=handles, labels=labels, loc="upper center", ncols=2, fontsize=9)
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / figure.get_figheight()))
    names = ", ".join(each.submission for each in found)
    description = (
        f"What adapting to a target B after a target A changes on either, and what one adaptation "
        f"changes on other classes: {names}"
    )
    return Plot("interference", "Interference", description, figure)


def _draw(
    axes: Axes,
    rows: np.ndarray,
    estimates: Sequence[Estimate],
    colour: str,
    marker: str,
    label: str,
) -> None:
    values, low, high = np.array([(e.value, e.low, e.high) for e in estimates]).T
    axes.errorbar(
        values,
        rows,
        xerr=(values - low, high - values),
        fmt=marker,
        color=colour,
        markersize=5,
        linewidth=1.5,
        label=label,
    )
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.grid(True, axis="x")


def _percent(estimate: Estimate) -> Estimate:
    return Estimate(100 * estimate.value, 100 * estimate.low, 100 * estimate.high)
