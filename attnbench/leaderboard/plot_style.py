"""The look of plots: accessible colours, light and dark, and point labels that do not overlap."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from attnbench.files import write_atomically

Floats = NDArray[np.float64]
# Candidate positions of a label around its point: distances in pixels, nearest first, and angles.
_DISTANCES = (7, 12, 18, 26, 36, 48, 62, 78, 96, 116, 138, 162, 190, 220)
_ANGLES = np.arange(24) * np.pi / 12
# Those of Okabe & Ito's colours with enough contrast on both white and black.
BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
SKY, PURPLE = "#56b4e9", "#cc79a7"
# One of each for every method in a plot, in turn.
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE)
MARKERS = "osD^vP"
# The site replaces the colours in `_DARK` for readers who prefer a dark colour scheme.
INK, FAINT, PAPER = "#1b1b1c", "#b9b9ba", "#fefeff"
_DARK = {INK: "#e6e6e7", FAINT: "#5c5c5e", PAPER: "#16181c", BLUE: "#3d9ddb"}
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a name with dollar signs is not a formula
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "legend.frameon": False,
    "svg.hashsalt": "attnbench",  # without a fixed salt, ids in the SVG would be random
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Plot:
    """A matplotlib figure with its name and a text alternative.

    Attributes:
        name: file name without a suffix.
        title: a heading.
        description: what the plot shows, for readers who cannot see it.
        figure: the figure.
    """

    name: str
    title: str
    description: str
    figure: Figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches; draw on it within `styled()`."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)  # `label_points` needs a renderer to measure text
    return figure


def styled() -> AbstractContextManager[None]:
    """Return a context in which figures are drawn and written in the common style."""
    return matplotlib.rc_context(_STYLE)


def svg(plot: Plot) -> bytes:
    """Return the plot as SVG; the same plot gives the same bytes."""
    return _saved(plot.figure, "svg", metadata={"Date": None, "Creator": None})


def png(plot: Plot) -> bytes:
    """Return the plot as PNG."""
    return _saved(plot.figure, "png", dpi=150)


def write_plot(plot: Plot, path: Path) -> None:
    """Write a plot as SVG or, if the file does not end in .svg, as PNG.

    Raises:
        AttnbenchError: if the file cannot be written.
    """
    content = svg(plot) if path.suffix == ".svg" else png(plot)
    write_atomically(path, content, path.parent)


def svg_for_pages(plot: Plot) -> bytes:
    """Return the plot as an SVG whose colours follow the reader's light or dark preference."""
    return follow_reader(svg(plot).decode())


def follow_reader(text: str) -> bytes:
    """Let the colours of an SVG follow the reader's light or dark preference."""
    names = {colour: f"--c{number}" for number, colour in enumerate(_DARK)}
    for colour, name in names.items():
        text = text.replace(colour, f"var({name})")
    light = ";".join(f"{name}:{colour}" for colour, name in names.items())
    dark = ";".join(f"{names[colour]}:{on_dark}" for colour, on_dark in _DARK.items())
    style = f"<style>svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    return re.sub(r"(<svg\b[^>]*>)", lambda tag: tag[1] + style, text, count=1).encode()


def _saved(figure: Figure, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with styled(), warnings.catch_warnings():
        # Names come from records and may have characters that the font lacks; these become boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()


def label_points(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    labels: Sequence[str],
    size: float,
    *,
    clear_of: Sequence[tuple[float, float]] = (),
) -> None:
    """Write labels beside points without overlaps; a label that does not fit is left out.

    Earlier labels have priority. Limits and scales of the axes must not change afterwards.

    Args:
        axes: the axes to write on.
        points: x and y of each point, in data coordinates.
        labels: those of the first points, or of all.
        size: font size in points.
        clear_of: corners of a line that no label may cover, in data coordinates.
    """
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    inside = np.array(axes.get_window_extent(renderer).extents)
    places = np.asarray(axes.transData.transform(points))
    taken = np.concatenate([places - 5, places + 5], axis=1)
    corners = np.asarray(axes.transData.transform(clear_of or [(0, 0)]))
    covered = np.concatenate([corners, *(_sampled(*ends) for ends in pairwise(corners))])
    for place, label in zip(places, labels, strict=False):
        probe = axes.text(0, 0, label, fontsize=size, transform=None)
        extent = probe.get_window_extent(renderer)
        probe.remove()
        box = _free_box(place, (extent.width + 2, extent.height + 2), inside, taken, covered)
        if box is None:
            continue
        taken = np.concatenate([taken, box[None]])
        end = _nearest(box, place)
        if math.dist(end, place) > 9:
            # The label is not next to its point: a thin line connects them.
            covered = np.concatenate([covered, _sampled(place, end)])
            ends = axes.transData.inverted().transform([place, end])
            axes.plot(ends[:, 0], ends[:, 1], color=FAINT, linewidth=0.7, zorder=1)
        x, y = axes.transData.inverted().transform(box[:2] + 1)
        axes.text(x, y, label, fontsize=size, ha="left", va="bottom", zorder=4)


def _free_box(
    place: Floats, size: tuple[float, float], inside: Floats, taken: Floats, covered: Floats
) -> Floats | None:
    """Return the nearest free box around a place: left, bottom, right and top in pixels.

    Args:
        place: x and y.
        size: width and height of the box.
        inside: the box to stay in, `[4]`.
        taken: boxes that must not be overlapped, `[n, 4]`.
        covered: points that must not be covered, `[n, 2]`.

    Returns:
        None if every candidate position is taken.
    """
    distances, angles = (grid.ravel() for grid in np.meshgrid(_DISTANCES, _ANGLES, indexing="ij"))
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    corners = place + distances[:, None] * directions + (directions - 1) / 2 * size
    boxes = np.concatenate([corners, corners + size], axis=1)
    free = (boxes[:, :2] >= inside[:2]).all(axis=1) & (boxes[:, 2:] <= inside[2:]).all(axis=1)
    disjoint = (boxes[:, None, 2:] < taken[:, :2]) | (boxes[:, None, :2] > taken[:, 2:])
    free &= np.all(np.any(disjoint, axis=2), axis=1)
    boxes, distances = boxes[free], distances[free]
    clear = ~_contains(boxes, covered).any(axis=1)
    # A box that contains the place belongs to this point or to a close neighbour. The connecting line
    # cannot avoid it.
    obstacles = taken[~_contains(taken, place[None])[:, 0]]
    for box, distance in zip(boxes[clear], distances[clear], strict=True):
        line = _sampled(place, _nearest(box, place))
        if distance <= 9 or not _contains(obstacles, line).any():
            return np.asarray(box)
    return None


def _nearest(box: Floats, place: Floats) -> Floats:
    """Return the point of a box that is nearest to a place."""
    return np.asarray(np.clip(place, box[:2], box[2:]))


def _contains(boxes: Floats, points: Floats) -> NDArray[np.bool_]:
    """Return which boxes contain which points, bool `[boxes, points]`."""
    x, y = points.T
    left, bottom, right, top = boxes.T[:, :, None]
    return np.asarray((left <= x) & (x <= right) & (bottom <= y) & (y <= top))


def _sampled(start: Floats, end: Floats) -> Floats:
    """Return points on a line, at most 4 pixels apart, `[n, 2]`."""
    steps = max(2, math.ceil(math.dist(start, end) / 4))
    return np.linspace(start, end, steps + 1)
