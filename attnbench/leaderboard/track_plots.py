"""The plots of a track: what is gained for which cost, d' and ROC of a task, who errs alike.

They are drawn from a few numbers, so that another process can do it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnbench.leaderboard.drawing import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Plot,
    name_points,
    new_figure,
    styled,
)
from attnbench.leaderboard.entries import FALSE_ALARM_RATES, Floats
from attnbench.leaderboard.standings import Interval
from attnbench.statistics.comparison import pareto_margins

# As many as can be read in one picture; tables have them all.
MOST_ROWS, MOST_NAMES, MOST_CURVES = 40, 60, 5
_HIGHLIGHTED = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, INK)
_DASHES = ("solid", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)), (0, (8, 2, 1, 2, 1, 2)))


@dataclass(frozen=True)
class Bargain:
    """A method by what it gives for what.

    Attributes:
        whole: whether d' is the mean over all tasks, or only over those it applies to.
    """

    label: str
    d_prime: float
    cost: float
    whole: bool


@dataclass(frozen=True)
class Scored:
    """A method on one contest.

    Attributes:
        control: whether its curve is drawn, however good it is.
        threshold: mean false-alarm and hit rate at the detector's own, uncorrected.
        curve: hit rates at `FALSE_ALARM_RATES`; None without scores.
    """

    label: str
    control: bool
    d_prime: float
    interval: Interval
    threshold: tuple[float, float]
    curve: Floats | None


def contest_plots(
    name: str, about: str, methods: Sequence[Scored], kappas: Mapping[str, tuple[list[str], Floats]]
) -> list[Plot]:
    """d' with intervals, ROC curves and error consistency of one task on one backbone.

    Args:
        name: what the plots' names begin with; `about`: what their titles end with.
        methods: those of the largest d' first.
        kappas: for "present" and "absent", labels and kappa of every two, NaN where undefined.
    """
    with styled():
        plots = [_d_primes(f"{name}-d-prime", about, methods)]
        if any(each.curve is not None for each in methods):
            plots.append(_rocs(f"{name}-roc", about, methods))
        for side, (labels, matrix) in kappas.items():
            plots.append(_consistency(f"{name}-errors-{side}", about, side, labels, matrix))
        return plots


def pareto_plot(
    name: str, title: str, methods: Sequence[Bargain], unit: str, contests: int, *, counted: bool
) -> Plot:
    """d' against a cost, with names.

    Args:
        unit: what the cost is.
        contests: how many tasks and backbones a whole mean is over.
        counted: whether costs are whole numbers, 0 among them, or times.
    """
    with styled():
        return _pareto(name, title, methods, unit, contests, counted)


def _pareto(
    name: str, title: str, methods: Sequence[Bargain], unit: str, contests: int, counted: bool
) -> Plot:
    benefit = np.array([each.d_prime for each in methods])
    costs = [each.cost for each in methods]
    labels = [each.label for each in methods]
    whole = np.array([each.whole for each in methods])
    margins = np.full(len(methods), -np.inf)
    if whole.any():
        margins[whole] = pareto_margins(benefit[whole], np.array(costs)[whole, None])
    front = [int(n) for n in np.argsort(costs, kind="stable") if margins[n] > 0]
    figure = new_figure(9, 6.5)
    axes = figure.add_axes((0.08, 0.1, 0.87, 0.82))
    if counted:
        axes.set_xscale("symlog", linthresh=1, linscale=0.4)
        axes.set_xlim(-0.4, max(10.0, max(costs)) * 3)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    else:
        axes.set_xscale("log")
        axes.set_xlim(max(min(costs), 1e-9) / 2, max(max(costs), 1e-9) * 3)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    spread = max(0.5, float(np.ptp(benefit)))
    axes.set_ylim(benefit.min() - 0.08 * spread, benefit.max() + 0.1 * spread)
    axes.grid(True, which="major")
    axes.set_xlabel(unit)
    axes.set_ylabel("d′, mean over tasks")
    x, y = np.array(costs), benefit
    line = [at for n, after in pairwise(front) for at in ((x[n], y[n]), (x[after], y[n]))]
    line += [(x[n], y[n]) for n in front[-1:]]
    axes.plot(
        [at for at, _ in line], [at for _, at in line], color=VERMILION, linewidth=1.2, zorder=2
    )
    groups = [
        (margins > 0, VERMILION, VERMILION, "on the Pareto front: none is better for less"),
        (whole & ~(margins > 0), BLUE, BLUE, "others"),
        (~whole, "none", BLUE, f"mean over fewer than the {contests} tasks: not comparable"),
    ]
    for group, face, edge, label in groups:
        if group.any():
            axes.scatter(x[group], y[group], 30, face, edgecolors=edge, label=label, zorder=3)
    figure.legend(*axes.get_legend_handles_labels(), loc="upper left", ncols=3, fontsize=9)
    order = sorted(range(len(methods)), key=lambda n: (not margins[n] > 0, -benefit[n]))
    points = [(x[n], y[n]) for n in order]
    name_points(axes, points, [labels[n] for n in order[:MOST_NAMES]], 8, clear_of=line)
    on_front = ", ".join(labels[n] for n in front) or "none"
    return Plot(name, title, f"{title}: {len(methods)} methods; on the front: {on_front}.", figure)


def _d_primes(name: str, about: str, methods: Sequence[Scored]) -> Plot:
    shown = methods[:MOST_ROWS]
    figure, axes = _with_rows([each.label for each in shown], 1.2)
    found = np.array([each.d_prime for each in shown])
    ends = np.array([each.interval for each in shown])
    apart = np.maximum(0, np.stack([found - ends[:, 0], ends[:, 1] - found]))
    axes.errorbar(
        found, range(len(shown)), xerr=apart, fmt="o", color=BLUE, capsize=3, markersize=5
    )
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_xlabel("d′, mean over targets, with its 95 % interval (0 is chance)")
    axes.grid(True, axis="x")
    title = f"d′ on {about}"
    first, last = shown[0], shown[-1]
    description = (
        f"{title}: from {last.label} ({last.d_prime:.2f}) to {first.label} ({first.d_prime:.2f})"
        + (f"; the {MOST_ROWS} largest of {len(methods)}." if len(methods) > MOST_ROWS else ".")
    )
    return Plot(name, title, description, figure)


def _with_rows(labels: Sequence[str], extra: float) -> tuple[Figure, Axes]:
    height = extra + 0.24 * len(labels)
    left = min(0.45, 0.03 + 0.0098 * max(map(len, labels)))
    figure = new_figure(8, height)
    axes = figure.add_axes((left, 0.75 / height, 0.96 - left, 1 - 0.9 / height))
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    return figure, axes


def _rocs(name: str, about: str, methods: Sequence[Scored]) -> Plot:
    figure = new_figure(7, 6)
    axes = figure.add_axes((0.11, 0.1, 0.86, 0.86))
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (1, 3)))
    drawn = [(each, each.curve) for each in methods if each.curve is not None]
    controls = [number for number, (each, _) in enumerate(drawn) if each.control]
    named = sorted({*range(min(MOST_CURVES, len(drawn))), *controls[:2]})
    label = "others"
    for number, (_, curve) in enumerate(drawn[:MOST_ROWS]):
        if number not in named:
            axes.plot(FALSE_ALARM_RATES, curve, FAINT, linewidth=0.7, label=label, zorder=1)
            label = "_"
    for place, number in enumerate(named):
        each, curve = drawn[number]
        colour, dashes = _HIGHLIGHTED[place], _DASHES[place % len(_DASHES)]
        axes.plot(FALSE_ALARM_RATES, curve, colour, ls=dashes, label=each.label, zorder=3)
        axes.plot(*each.threshold, "o", color=colour, markersize=5, zorder=4)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.grid(True)
    axes.set_xlabel("false-alarm rate (share of absent trials called present)")
    axes.set_ylabel("hit rate (share of present trials called present)")
    axes.legend(loc="lower right", fontsize=9)
    title = f"ROC on {about}"
    description = (
        f"{title}: the mean over targets; in colour the methods of largest d′ and the controls; "
        "the dot is the detector’s own threshold, the dotted line chance."
    )
    return Plot(name, title, description, figure)


def _consistency(name: str, about: str, side: str, labels: Sequence[str], matrix: Floats) -> Plot:
    few = len(labels) <= 12
    cell, margin = (0.55 if few else 0.25), 0.35 + 0.075 * max(map(len, labels))
    extent = max(2.5, cell * len(labels))
    width, height = margin + extent + 1.1, extent + margin + 0.2
    figure = new_figure(width, height)
    axes = figure.add_axes((margin / width, margin / height, extent / width, extent / height))
    image = axes.imshow(matrix, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    undefined = np.argwhere(np.isnan(matrix))
    axes.plot(undefined[:, 1], undefined[:, 0], "x", color=INK, markersize=4, linestyle="none")
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(labelsize=9 if few else 8, length=0)
    axes.spines[:].set_visible(False)
    if few:
        for (i, j), value in np.ndenumerate(matrix):
            if not np.isnan(value):
                colour = "#ffffff" if value < 0.5 else "#000000"
                axes.text(j, i, f"{value:.2f}", color=colour, fontsize=8, ha="center", va="center")
    bar = figure.add_axes((1 - 0.85 / width, margin / height, 0.15 / width, extent / height))
    figure.colorbar(image, cax=bar, extend="min").set_label("Cohen's κ")
    others = matrix[~np.eye(len(labels), dtype=bool)]
    known = others[~np.isnan(others)]
    said = f"κ from {known.min():.2f} to {known.max():.2f}" if len(known) else "κ is not defined"
    title = f"Error consistency on {about}, target {side}"
    description = (
        f"{title}: {said} between two methods; × where it is not defined "
        f"({len(undefined)} of {matrix.size} cells)."
    )
    return Plot(name, title, description, figure)
