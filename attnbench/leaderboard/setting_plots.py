"""The plots of a setting: d' with intervals, ROC curves and error consistency.

They are drawn from a few numbers, so that another process can do it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import t

from attnbench.leaderboard.entries import MeanRoc
from attnbench.leaderboard.plot_style import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Plot,
    new_figure,
    styled,
)
from attnbench.leaderboard.score_summary import FALSE_ALARM_RATES, Floats
from attnbench.statistics.clustering import clustered_order
from attnbench.statistics.intervals import Interval

# As many as are legible in one plot; the tables have all methods.
_MOST_ROWS, _MOST_CURVES = 40, 5
_HIGHLIGHTS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, INK)
_DASHES = ("solid", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)), (0, (8, 2, 1, 2, 1, 2)))


@dataclass(frozen=True)
class MethodDetection:
    """How well a method detects in one setting.

    Attributes:
        label: the method's label.
        control: whether the method is a control, whose ROC curve is always highlighted.
        d_prime: mean over targets, in z units.
        interval: 95 % interval of d'.
        of_targets: d' of each target.
        operating_point: mean uncorrected false-alarm rate and hit rate at the detector's own
            threshold.
        curve: the mean ROC curve; None without scores.
    """

    label: str
    control: bool
    d_prime: float
    interval: Interval
    of_targets: tuple[float, ...]
    operating_point: tuple[float, float]
    curve: MeanRoc | None


def setting_plots(
    name: str,
    about: str,
    methods: Sequence[MethodDetection],
    kappas: Mapping[str, tuple[list[str], Floats]],
) -> list[Plot]:
    """Plot d' with intervals and targets, ROC curves and error consistency of one setting.

    Args:
        name: prefix of the plots' file names.
        about: the setting, for titles.
        methods: ordered by d', the largest first.
        kappas: for "present" and "absent" trials, labels `[m]` and kappa `[m, m]`, NaN where it is
            undefined.
    """
    with styled():
        plots = [_d_prime_plot(f"{name}-d-prime", about, methods)]
        if any(method.curve is not None for method in methods):
            plots.append(_roc_plot(f"{name}-roc", about, methods))
        for trials, (labels, kappa) in kappas.items():
            plots.append(_consistency_plot(f"{name}-errors-{trials}", about, trials, labels, kappa))
        return plots


def _d_prime_plot(name: str, about: str, methods: Sequence[MethodDetection]) -> Plot:
    shown = methods[:_MOST_ROWS]
    figure, axes = _labelled_rows([method.label for method in shown], 1.2)
    d_primes = np.array([method.d_prime for method in shown])
    ends = np.array([method.interval for method in shown])
    for number, method in enumerate(shown):
        heights = np.full(len(method.of_targets), number + 0.22)
        axes.plot(method.of_targets, heights, "|", color=FAINT, markersize=5, zorder=1)
    lengths = np.maximum(0, np.stack([d_primes - ends[:, 0], ends[:, 1] - d_primes]))
    axes.errorbar(
        d_primes, range(len(shown)), xerr=lengths, fmt="o", color=BLUE, capsize=3, markersize=5
    )
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_xlabel("d′: mean over targets with 95 % interval; small lines are targets")
    axes.grid(True, axis="x")
    title = f"d′ on {about}"
    first, last = shown[0], shown[-1]
    description = (
        f"{title}: from {last.label} ({last.d_prime:.2f}) to {first.label} ({first.d_prime:.2f})"
        + (
            f"; the {_MOST_ROWS} methods with the largest d′, of {len(methods)}."
            if len(methods) > _MOST_ROWS
            else "."
        )
    )
    return Plot(name, title, description, figure)


def _labelled_rows(labels: Sequence[str], extra: float) -> tuple[Figure, Axes]:
    """Return a figure with a labelled row for each method; `extra` is its height without rows."""
    height = extra + 0.24 * len(labels)
    left = min(0.45, 0.03 + 0.0098 * max(map(len, labels)))
    figure = new_figure(8, height)
    axes = figure.add_axes((left, 0.75 / height, 0.96 - left, 1 - 0.9 / height))
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    return figure, axes


def _roc_plot(name: str, about: str, methods: Sequence[MethodDetection]) -> Plot:
    figure = new_figure(7, 6)
    axes = figure.add_axes((0.11, 0.1, 0.86, 0.86))
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (1, 3)))
    with_curves = [(method, method.curve) for method in methods if method.curve is not None]
    controls = [number for number, (method, _) in enumerate(with_curves) if method.control]
    highlighted = sorted({*range(min(_MOST_CURVES, len(with_curves))), *controls[:2]})
    label = "other methods"
    for number, (_, curve) in enumerate(with_curves[:_MOST_ROWS]):
        if number not in highlighted:
            rates = curve.hit_rates
            axes.plot(FALSE_ALARM_RATES, rates, FAINT, linewidth=0.7, label=label, zorder=1)
            label = "_"  # the legend skips labels that begin with an underscore
    for place, number in enumerate(highlighted):
        method, curve = with_curves[number]
        colour, dashes = _HIGHLIGHTS[place], _DASHES[place % len(_DASHES)]
        rates = curve.hit_rates
        axes.plot(FALSE_ALARM_RATES, rates, colour, ls=dashes, label=method.label, zorder=3)
        # More bands would hide one another.
        if len(method.of_targets) > 1 and (number == 0 or method.control):
            half = float(t.ppf(0.975, len(method.of_targets) - 1)) * curve.errors
            low, high = np.clip(rates - half, 0, 1), np.clip(rates + half, 0, 1)
            axes.fill_between(FALSE_ALARM_RATES, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(*method.operating_point, "o", color=colour, markersize=5, zorder=4)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.grid(True)
    axes.set_xlabel("false-alarm rate (share of absent trials called present)")
    axes.set_ylabel("hit rate (share of present trials called present)")
    axes.legend(loc="lower right", fontsize=9)
    title = f"ROC on {about}"
    description = (
        f"{title}, mean over targets. Coloured: the methods with the largest d′ and the controls. "
        "Band: 95 % interval over targets, of the first method and the controls. "
        "Dot: the detector’s own threshold. Dotted line: chance."
    )
    return Plot(name, title, description, figure)


def _consistency_plot(
    name: str, about: str, trials: str, labels: Sequence[str], kappa: Floats
) -> Plot:
    order = clustered_order(kappa)
    labels, kappa = [labels[number] for number in order], kappa[np.ix_(order, order)]
    few = len(labels) <= 12
    cell, margin = (0.55 if few else 0.25), 0.35 + 0.075 * max(map(len, labels))
    extent = max(2.5, cell * len(labels))
    width, height = margin + extent + 1.1, extent + margin + 0.2
    figure = new_figure(width, height)
    axes = figure.add_axes((margin / width, margin / height, extent / width, extent / height))
    heatmap = axes.imshow(kappa, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    undefined = np.argwhere(np.isnan(kappa))
    axes.plot(undefined[:, 1], undefined[:, 0], "x", color=INK, markersize=4, linestyle="none")
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(labelsize=9 if few else 8, length=0)
    axes.spines[:].set_visible(False)
    if few:
        for (i, j), value in np.ndenumerate(kappa):
            if not np.isnan(value):
                colour = "#ffffff" if value < 0.5 else "#000000"
                axes.text(j, i, f"{value:.2f}", color=colour, fontsize=8, ha="center", va="center")
    bar = figure.add_axes((1 - 0.85 / width, margin / height, 0.15 / width, extent / height))
    figure.colorbar(heatmap, cax=bar, extend="min").set_label("Cohen's κ")
    title = f"Error consistency on {about}, target {trials}"
    description = (
        f"{title}. {_agreement_in_words(labels, kappa)} Methods with similar errors are neighbours. "
        f"× where κ is undefined ({len(undefined)} of {kappa.size} cells)."
    )
    return Plot(name, title, description, figure)


def _agreement_in_words(labels: Sequence[str], kappa: Floats) -> str:
    """Return a sentence on the agreement of all pairs, and on the most and the least alike."""
    first, second = np.triu_indices(len(labels), 1)
    values = kappa[first, second]
    defined = ~np.isnan(values)
    if not defined.any():
        return "κ is undefined for all pairs of methods."
    first, second, values = first[defined], second[defined], values[defined]
    most, least = int(values.argmax()), int(values.argmin())
    pairs = [f"{labels[first[number]]} and {labels[second[number]]}" for number in (most, least)]
    if len(values) == 1:
        return f"κ of {pairs[0]} is {values[0]:.2f}."
    return (
        f"κ of two methods is {values.mean():.2f} on average. The errors of {pairs[0]} are the most "
        f"alike ({values[most]:.2f}), those of {pairs[1]} the least ({values[least]:.2f})."
    )
