"""A plot of the rows that `attnbench.evaluate` returns."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from attnbench.errors import AttnbenchError
from attnbench.leaderboard.plot_style import (
    COLOURS,
    MARKERS,
    styled,
)
from attnbench.text import printable

_KEYS = ["task", "track", "backbone"]


class ResultsFigure(Figure):
    """A figure that notebooks show without `%matplotlib inline`."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def plot(frame: pd.DataFrame) -> ResultsFigure:
    """Plot d' with its 95 % interval, and d_a, for each task, backbone and submission.

    Rows of several seeds are averaged, and so are the ends of their intervals.

    Args:
        frame: rows as `attnbench.evaluate` returns them.

    Returns:
        The figure, which notebooks show. `figure.savefig("results.svg")` writes it to a file.

    Raises:
        AttnbenchError: if no row has a d'.
    """
    rows = frame[frame["d_prime"].notna()]
    if rows.empty:
        raise AttnbenchError("nothing to plot: no row has a d′")
    measures = ["d_prime", "d_prime_low", "d_prime_high", "d_a"]
    means = rows.groupby([*_KEYS, "submission"], sort=False)[measures].mean().reset_index()
    names = list(dict.fromkeys(means["submission"]))
    settings = list(dict.fromkeys(means[_KEYS].itertuples(index=False, name=None)))
    step = 1 / (len(names) + 1)
    with styled():
        height_inches = 1.4 + len(settings) * (0.3 + 0.22 * len(names))
        figure = ResultsFigure(figsize=(7, height_inches), layout="constrained")
        axes = figure.add_subplot()
        for number, name in enumerate(names):
            own = means[means["submission"] == name]
            places = np.array([settings.index(tuple(key)) for key in own[_KEYS].to_numpy()])
            height = places + (number + 1) * step - 0.5
            colour = COLOURS[number % len(COLOURS)]
            d_prime = own["d_prime"].to_numpy(float)
            ends = own["d_prime_low"].to_numpy(float), own["d_prime_high"].to_numpy(float)
            axes.errorbar(
                d_prime,
                height,
                xerr=[np.maximum(0, d_prime - ends[0]), np.maximum(0, ends[1] - d_prime)],
                fmt=MARKERS[number % len(MARKERS)],
                color=colour,
                capsize=2,
                label=printable(name, 40),
            )
            axes.plot(own["d_a"].to_numpy(float), height, "|", color=colour, markersize=11)
        axes.set_yticks(
            range(len(settings)),
            [f"{printable(task, 40)}\n{printable(backbone, 40)}" for task, _, backbone in settings],
        )
        axes.set_ylim(len(settings) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.set_xlabel("sensitivity: d′ with 95 % interval; |: d_a, over all thresholds")
        figure.legend(loc="outside upper center", ncols=min(4, len(names)), frameon=False)
    return figure
