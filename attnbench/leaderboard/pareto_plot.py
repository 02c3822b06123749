"""A plot of d_a against a cost, with the Pareto front.

It is drawn from a few numbers, so that another process can do it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from attnbench.leaderboard.plot_style import (
    BLUE,
    VERMILION,
    Plot,
    label_points,
    new_figure,
    styled,
)
from attnbench.statistics.ranking import pareto_margins

# As many as are legible in one plot; the tables have all methods.
_MOST_LABELS = 60


@dataclass(frozen=True)
class ParetoPoint:
    """A method in a plot of d_a against one cost.

    Attributes:
        label: the method's label.
        d_a: mean over settings, in z units.
        cost: in the plot's unit.
    """

    label: str
    d_a: float
    cost: float


def pareto_plot(
    name: str, title: str, points: Sequence[ParetoPoint], unit: str, *, counted: bool
) -> Plot:
    """Plot d_a against a cost, with labelled points and the Pareto front.

    Args:
        name: file name without a suffix.
        title: heading of the plot.
        points: at least one method.
        unit: label of the cost axis.
        counted: whether costs are whole numbers that include 0, rather than times.
    """
    with styled():
        return _pareto_plot(name, title, points, unit, counted)


def _pareto_plot(
    name: str, title: str, points: Sequence[ParetoPoint], unit: str, counted: bool
) -> Plot:
    x, y = (np.array([getattr(point, axis) for point in points]) for axis in ("cost", "d_a"))
    labels = [point.label for point in points]
    margins = pareto_margins(y, x[:, None])
    front = [int(n) for n in np.argsort(x, kind="stable") if margins[n] > 0]
    figure = new_figure(9, 6.5)
    axes = figure.add_axes((0.08, 0.1, 0.87, 0.82))
    if counted:
        axes.set_xscale("symlog", linthresh=1, linscale=0.4)
        axes.set_xlim(-0.4, max(10.0, x.max()) * 3)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    else:
        axes.set_xscale("log")
        axes.set_xlim(max(x.min(), 1e-9) / 2, max(x.max(), 1e-9) * 3)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    spread = max(0.5, float(np.ptp(y)))
    axes.set_ylim(y.min() - 0.08 * spread, y.max() + 0.1 * spread)
    axes.grid(True, which="major")
    axes.set_xlabel(unit)
    axes.set_ylabel("d_a, mean over tasks")
    # The front as a staircase: the best d_a within each budget.
    steps = [corner for n, after in pairwise(front) for corner in ((x[n], y[n]), (x[after], y[n]))]
    steps += [(x[n], y[n]) for n in front[-1:]]
    axes.plot(
        [corner_x for corner_x, _ in steps],
        [corner_y for _, corner_y in steps],
        color=VERMILION,
        linewidth=1.2,
        zorder=2,
    )
    for members, colour, label in (
        (margins > 0, VERMILION, "on the Pareto front"),
        (margins <= 0, BLUE, "not on the front"),
    ):
        if members.any():
            axes.scatter(x[members], y[members], 30, colour, label=label, zorder=3)
    figure.legend(*axes.get_legend_handles_labels(), loc="upper left", ncols=2, fontsize=9)
    order = sorted(range(len(points)), key=lambda n: (not margins[n] > 0, -y[n]))
    places = [(x[n], y[n]) for n in order]
    label_points(axes, places, [labels[n] for n in order[:_MOST_LABELS]], 8, clear_of=steps)
    on_front = ", ".join(labels[n] for n in front) or "none"
    number = f"{len(points)} {'method' if len(points) == 1 else 'methods'}"
    return Plot(name, title, f"{title}: {number}; on the Pareto front: {on_front}.", figure)
