"""How plots look and are written: colours for everyone, light and dark, names that do not overlap."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Where a name may stand around its point, the nearest first: pixels, and directions.
_DISTANCES = (7, 12, 18, 26, 36, 48, 62, 78, 96, 116, 138, 162, 190, 220)
_ANGLES = np.arange(24) * np.pi / 12
# Okabe & Ito's colours that stand out from white and from black.
BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
SKY, PURPLE = "#56b4e9", "#cc79a7"
# What is not data: the site gives these another value where the reader's screen is dark.
INK, FAINT, PAPER = "#1b1b1c", "#b9b9ba", "#fefeff"
_DARK = {INK: "#e6e6e7", FAINT: "#5c5c5e", PAPER: "#16181c", BLUE: "#3d9ddb"}
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # names are not formulas, whatever stands in them
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
    "svg.hashsalt": "attnbench",
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Plot:
    """A plot and what it says in words.

    Attributes:
        name: of its file, without a suffix.
        title: a heading.
        description: what can be seen in it, for who cannot.
    """

    name: str
    title: str
    description: str
    figure: Figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches; what is drawn within `styled()` looks alike."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)  # so that the extent of names can be measured
    return figure


def styled() -> AbstractContextManager[None]:
    """The style, to draw and to write in."""
    return matplotlib.rc_context(_STYLE)


def svg(plot: Plot) -> bytes:
    """The plot as an SVG, the same bytes for the same plot."""
    return _written(plot.figure, "svg", metadata={"Date": None, "Creator": None})


def png(plot: Plot) -> bytes:
    """The plot as a PNG."""
    return _written(plot.figure, "png", dpi=150)


def svg_for_pages(plot: Plot) -> bytes:
    """The plot as an SVG whose ink and paper follow the reader's preference of light or dark."""
    text = svg(plot).decode()
    names = {colour: f"--c{number}" for number, colour in enumerate(_DARK)}
    for colour, name in names.items():
        text = text.replace(colour, f"var({name})")
    light = ";".join(f"{name}:{colour}" for colour, name in names.items())
    dark = ";".join(f"{names[colour]}:{other}" for colour, other in _DARK.items())
    style = f"<style>svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    return re.sub(r"(<svg\b[^>]*>)", lambda tag: tag[1] + style, text, count=1).encode()


def _written(figure: Figure, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with styled(), warnings.catch_warnings():
        # A name may have letters that the font lacks; a box in their place is what there is.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()


def name_points(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    size: float,
    *,
    clear_of: Sequence[tuple[float, float]] = (),
) -> None:
    """Write names beside points, those first that come first; one that finds no room is left out.

    Limits and scales of the axes must not change afterwards.

    Args:
        points: x and y of each, in the axes' data.
        names: of the first ones, or of all.
        size: of the letters, in points.
        clear_of: corners of a line that no name may stand on.
    """
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    inside = np.array(axes.get_window_extent(renderer).extents)
    places = np.asarray(axes.transData.transform(points))
    taken = np.concatenate([places - 5, places + 5], axis=1)
    corners = np.asarray(axes.transData.transform(clear_of or [(0, 0)]))
    covered = np.concatenate([corners, *(_along(*ends) for ends in pairwise(corners))])
    for place, name in zip(places, names, strict=False):
        probe = axes.text(0, 0, name, fontsize=size, transform=None)
        extent = probe.get_window_extent(renderer)
        probe.remove()
        found = _room(place, (extent.width + 2, extent.height + 2), inside, taken, covered)
        if found is None:
            continue
        taken = np.concatenate([taken, found[None]])
        end = _nearest(found, place)
        if math.dist(end, place) > 9:
            covered = np.concatenate([covered, _along(place, end)])
            ends = axes.transData.inverted().transform([place, end])
            axes.plot(ends[:, 0], ends[:, 1], color=FAINT, linewidth=0.7, zorder=1)
        x, y = axes.transData.inverted().transform(found[:2] + 1)
        axes.text(x, y, name, fontsize=size, ha="left", va="bottom", zorder=4)


def _room(
    place: Floats, size: tuple[float, float], inside: Floats, taken: Floats, covered: Floats
) -> Floats | None:
    """The nearest free box of this size around a place, in pixels: left, bottom, right, top.

    Args:
        inside: the box to stay in; `taken`: boxes not to overlap, `[n, 4]`.
        covered: points not to stand on, `[n, 2]`.
    """
    distance, angle = (each.ravel() for each in np.meshgrid(_DISTANCES, _ANGLES, indexing="ij"))
    ways = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    corner = place + distance[:, None] * ways + (ways - 1) / 2 * size
    boxes = np.concatenate([corner, corner + size], axis=1)
    free = (boxes[:, :2] >= inside[:2]).all(axis=1) & (boxes[:, 2:] <= inside[2:]).all(axis=1)
    apart = (boxes[:, None, 2:] < taken[:, :2]) | (boxes[:, None, :2] > taken[:, 2:])
    free &= np.all(np.any(apart, axis=2), axis=1)
    boxes, distance = boxes[free], distance[free]
    clear = ~_holds(boxes, covered).any(axis=1)
    # A box that holds the place is the point's own, or its neighbour's: its line may touch these.
    others = taken[~_holds(taken, place[None])[:, 0]]
    for box, far in zip(boxes[clear], distance[clear], strict=True):
        if far <= 9 or not _holds(others, _along(place, _nearest(box, place))).any():
            return np.asarray(box)
    return None


def _nearest(box: Floats, place: Floats) -> Floats:
    return np.asarray(np.clip(place, box[:2], box[2:]))


def _holds(boxes: Floats, points: Floats) -> NDArray[np.bool_]:
    """Which boxes hold which points, `[boxes, points]`."""
    x, y = points.T
    left, bottom, right, top = boxes.T[:, :, None]
    return np.asarray((left <= x) & (x <= right) & (bottom <= y) & (y <= top))


def _along(start: Floats, end: Floats) -> Floats:
    """Points of a line, 4 pixels apart at most."""
    steps = max(2, math.ceil(math.dist(start, end) / 4))
    return np.linspace(start, end, steps + 1)
