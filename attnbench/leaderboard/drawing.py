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
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

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
    inside = axes.get_window_extent(renderer)
    places = [(float(x), float(y)) for x, y in axes.transData.transform(points)]
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    corners = [(float(x), float(y)) for x, y in axes.transData.transform(clear_of or [(0, 0)])]
    lines = list(pairwise(corners))
    for place, name in zip(places, names, strict=False):
        probe = axes.text(0, 0, name, fontsize=size, transform=None)
        extent = probe.get_window_extent(renderer)
        probe.remove()
        found = _room(place, extent.width, extent.height, inside, taken, lines)
        if found is None:
            continue
        taken.append(found)
        end = _nearest(found, place)
        if math.dist(end, place) > 9:
            lines.append((place, end))
            ends = axes.transData.inverted().transform([place, end])
            axes.plot(ends[:, 0], ends[:, 1], color=FAINT, linewidth=0.7, zorder=1)
        x, y = axes.transData.inverted().transform((found.x0 + 1, found.y0 + 1))
        axes.text(x, y, name, fontsize=size, ha="left", va="bottom", zorder=4)


def _room(
    place: tuple[float, float],
    width: float,
    height: float,
    inside: Bbox,
    taken: Sequence[Bbox],
    lines: Sequence[tuple[tuple[float, float], tuple[float, float]]],
) -> Bbox | None:
    """The nearest free box of this size around a place, in pixels."""
    width, height = width + 2, height + 2
    for distance in (7, 12, 18, 26, 36, 48, 62, 78, 96, 116, 138, 162, 190, 220):
        for step in range(24):
            angle = step * math.pi / 12
            x = place[0] + distance * math.cos(angle) + (math.cos(angle) - 1) / 2 * width
            y = place[1] + distance * math.sin(angle) + (math.sin(angle) - 1) / 2 * height
            box = Bbox.from_bounds(x, y, width, height)
            if not (inside.x0 <= box.x0 and box.x1 <= inside.x1):
                continue
            if not (inside.y0 <= box.y0 and box.y1 <= inside.y1):
                continue
            if any(box.overlaps(other) for other in taken):
                continue
            way = place, _nearest(box, place)
            if any(_crosses(box, line) for line in lines):
                continue
            # The first box of `taken` that its line may touch is the point's own.
            if distance > 9 and any(
                _crosses(other, way) for other in taken if not other.contains(*place)
            ):
                continue
            return box
    return None


def _nearest(box: Bbox, place: tuple[float, float]) -> tuple[float, float]:
    return min(max(place[0], box.x0), box.x1), min(max(place[1], box.y0), box.y1)


def _crosses(box: Bbox, line: tuple[tuple[float, float], tuple[float, float]]) -> bool:
    (x0, y0), (x1, y1) = line
    steps = max(2, math.ceil(math.dist(*line) / 4))
    return any(
        box.contains(x0 + (x1 - x0) * part / steps, y0 + (y1 - y0) * part / steps)
        for part in range(steps + 1)
    )
