"""A plot of learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from attnbench.leaderboard.plot_style import (
    COLOURS,
    INK,
    MARKERS,
    Plot,
    new_figure,
    styled,
)
from attnbench.records.learning_curves import IMAGES, Curve
from attnbench.statistics.intervals import Floats, mean_interval
from attnbench.text import printable


def curve_plot(curves: Sequence[Curve]) -> Plot:
    """Plot d_a on held-out images, and the generalisation lag, for each setting.

    Args:
        curves: at least one. Those of the same task, track, backbone and axis share a row of panels.
    """
    settings = list(dict.fromkeys(map(_setting, curves)))
    # A method looks the same in all panels.
    numbers = {name: n for n, name in enumerate(dict.fromkeys(c.key.submission for c in curves))}
    with styled():
        figure = new_figure(9, 0.6 + 3.6 * len(settings))
        panels = figure.subplots(len(settings), 2, squeeze=False, sharex="row")
        for (sensitivity, lag), setting in zip(panels, settings, strict=True):
            own = [curve for curve in curves if _setting(curve) == setting]
            _draw(sensitivity, lag, own, numbers)
            task, track, backbone, _ = setting
            sensitivity.set_title(printable(f"{task} ({track}, {backbone})"), fontsize=10)
        labelled: dict[str, Artist] = {}
        for axes in panels[:, 0]:
            handles, labels = axes.get_legend_handles_labels()
            labelled |= dict(zip(map(str, labels), handles, strict=True))
        columns = min(5, len(labelled))
        figure.legend(
            handles=list(labelled.values()), loc="upper center", ncols=columns, fontsize=9
        )
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / figure.get_figheight()))
    names = ", ".join(dict.fromkeys(curve.key.submission for curve in curves))
    description = f"d_a on held-out images, and the generalisation lag, of {names}"
    return Plot("curve", "Learning curves", description, figure)


def _setting(curve: Curve) -> tuple[str, str, str, str]:
    axis = IMAGES if curve.axis == IMAGES else "budget"
    return curve.key.task, curve.key.track, curve.key.backbone, axis


def _draw(
    sensitivity: Axes, lag: Axes, curves: Sequence[Curve], numbers: Mapping[str, int]
) -> None:
    """Draw the curves of one setting into two panels.

    Args:
        sensitivity, lag: the panels.
        curves: the curves.
        numbers: a number for each submission, which decides its colour and marker.
    """
    along = "images of the target"
    if curves[0].axis != IMAGES:
        along = "adaptation time in passes"
        if contended := any(None in curve.passes for curve in curves):
            along += " (beside other work)"
    for curve in curves:
        number = numbers[curve.key.submission]
        x = np.array(curve.abscissa, float)
        if curve.axis != IMAGES:
            x = np.array(curve.contended_passes if contended else curve.passes, float)
        colour = COLOURS[number % len(COLOURS)]
        marker = MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
        label = printable(curve.key.submission, 40)
        for axes, values in ((sensitivity, curve.d_a), (lag, curve.lag)):
            low, high = _band(values)
            mean = values.mean(axis=0)
            if len(x) == 1:
                axes.vlines(x, low, high, color=colour, alpha=0.4, linewidth=1)
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(x, mean, color=colour, marker=marker, markersize=4, label=label)
    if curves[0].axis != IMAGES:
        _draw_front(sensitivity)
    for axes in (sensitivity, lag):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.grid(True)
        axes.set_xlabel(along)
    sensitivity.set_ylabel("d_a on held-out images")
    lag.set_ylabel("generalisation lag (AUC)")
    lag.axhline(0, color=INK, linewidth=0.8)


def _draw_front(axes: Axes) -> None:
    """Draw the Pareto front of all points of all curves: the best d_a for up to so many passes."""
    x, y = (np.concatenate([line.get_data()[n] for line in axes.lines]) for n in (0, 1))
    order = np.argsort(x, kind="stable")
    best = np.maximum.accumulate(y[order])
    axes.step(x[order], best, "--", where="post", label="Pareto front", color=INK, linewidth=1)


def _band(values: Floats) -> tuple[Floats, Floats]:
    """Return the 95 % interval of the mean over targets at each point, `[k]` each."""
    low, high = np.array([mean_interval(column) for column in values.T]).T
    return low, high
