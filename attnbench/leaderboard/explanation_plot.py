"""A picture of what an adaptation amplifies: channels, and places in images."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from attnbench.leaderboard.plot_style import BLUE, INK, Plot, new_figure, styled
from attnbench.text import printable

_SHOWN = 6


def explanation_plot(
    title: str,
    stage: str,
    gains: NDArray[np.float64],
    d_a: NDArray[np.float64],
    pictures: NDArray[np.float32],
    change: NDArray[np.float64] | None,
    masks: NDArray[np.float32] | None,
) -> Plot:
    """Plot gains against d_a, and the amplification over the first pictures.

    Args:
        title: heading of the picture.
        stage: the name of the stage whose input is shown.
        gains, d_a: float `[c]`, of each channel.
        pictures: float32 `[k, 3, H, W]` from 0 to 1.
        change: float `[k, h, w]`, the absolute change of the activations; None without maps.
        masks: float `[k, H, W]`, where the object is; None if that is not known.
    """
    with styled():
        columns = min(_SHOWN, len(pictures)) if change is not None else 0
        figure = new_figure(4.2 + 1.5 * columns, 3.8)
        # The scatter plot has the left part, and each picture a column to its right.
        left = 4.2 / figure.get_figwidth()
        axes = figure.add_axes((0.16 * left / 0.32 * 0.5, 0.15, 0.72 * left, 0.7))
        axes.axhline(1, color=INK, linewidth=0.8)
        axes.scatter(d_a, gains, 14, BLUE, alpha=0.8)
        axes.set_xlabel("d_a of the channel before adaptation")
        axes.set_ylabel(f"gain at the input of {printable(stage, 30)}")
        axes.grid(True)
        if change is not None:
            _draw_pictures(figure, left, pictures[:columns], change[:columns], masks)
        figure.suptitle(printable(title), fontsize=11)
    return Plot("explanation", "What is amplified", title, figure)


def _draw_pictures(
    figure: Figure,
    left: float,
    pictures: NDArray[np.float32],
    change: NDArray[np.float64],
    masks: NDArray[np.float32] | None,
) -> None:
    """Draw each picture above its map of amplification, with the outline of the object."""
    width = (1 - left) / len(pictures)
    for number, picture in enumerate(pictures):
        x = left + number * width
        shown = np.moveaxis(picture, 0, -1)
        height, breadth = shown.shape[:2]
        for row, bottom in enumerate((0.48, 0.1)):
            axes = figure.add_axes((x + 0.03 * width, bottom, 0.94 * width, 0.36))
            axes.imshow(shown if row == 0 else shown.mean(axis=-1), cmap="gray")
            if row:
                axes.imshow(
                    change[number],
                    cmap="inferno",
                    alpha=0.75,
                    extent=(-0.5, breadth - 0.5, height - 0.5, -0.5),
                    interpolation="bilinear",
                )
                if masks is not None:
                    axes.contour(masks[number], [0.5], colors="white", linewidths=1)
            axes.set_axis_off()
