"""The interactive chart of each track's standings, and the library that draws it in a browser.

A chart is a Vega-Lite specification (Satyanarayan et al. 2017, doi:10.1109/TVCG.2016.2599030).
vl-convert draws it as a picture for readers without scripts, and has the library for the others, so
that the site needs no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import vl_convert

from attnbench.leaderboard.plot_files import labels_of
from attnbench.leaderboard.plot_style import BLUE, FAINT, INK, VERMILION, follow_reader
from attnbench.leaderboard.pooling import Method
from attnbench.leaderboard.standings import Standings, StandingsRow
from attnbench.leaderboard.wording import FEATURED, describe_standing
from attnbench.text import printable

# Where a method stands, in the words of the legend, with the colour of its point.
_COLOURS = {
    "above the control": VERMILION,
    "the control": INK,
    "not distinguished": BLUE,
    "below the control": FAINT,
}
_WORDS = {"above": "above the control", "control": "the control", "below": "below the control"}
_STYLE: Mapping[str, Any] = {
    "background": None,
    "font": "DejaVu Sans, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "titleFontWeight": "normal",
        "gridColor": FAINT,
        "gridOpacity": 0.4,
        "domainColor": INK,
        "tickColor": INK,
        "labelFontSize": 12,
        "titleFontSize": 13,
    },
    "legend": {
        "labelColor": INK,
        "titleColor": INK,
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "symbolBaseFillColor": INK,
        "symbolBaseStrokeColor": INK,
    },
    "text": {"fontSize": 12},
}
_PICTURE_WIDTH, _HEIGHT, _LABEL_HEIGHT = 820, 330, 16
_LIBRARY = "vega.js"


@dataclass(frozen=True)
class Chart:
    """A chart of the site.

    Attributes:
        name: file name of its picture, without a suffix.
        description: what it shows.
        specification: what Vega-Lite draws it from.
    """

    name: str
    description: str
    specification: Mapping[str, Any]

    def picture(self) -> bytes:
        """Return the chart as SVG, for readers without scripts."""
        fixed = {**self.specification, "width": _PICTURE_WIDTH}
        return follow_reader(vl_convert.vegalite_to_svg(fixed))


def library() -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of the library that draws charts in a browser."""
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    yield _LIBRARY, script.encode()


def standings_chart(standings: Standings, pages: Mapping[Method, str]) -> Chart | None:
    """Return d_a against adaptation time in passes; None if no compared method has times.

    Args:
        standings: the standings.
        pages: the path of each method's page.
    """
    labels = dict(
        zip((row.method for row in standings.rows), labels_of(standings.rows), strict=True)
    )
    compared = [row for row in standings.rows if row.placement.d_a is not None]
    points = [_point(row, labels[row.method], standings, pages) for row in compared if _passes(row)]
    if not points:
        return None
    points = [{**point, "below": _is_crowded(point, points)} for point in points]
    untimed = [labels[row.method] for row in compared if not _passes(row)]
    control = next(
        (
            row.placement.d_a.value
            for row in compared
            if row.placement.verdict == "control" and row.placement.d_a
        ),
        None,
    )
    description = (
        f"d_a and adaptation time on {standings.name}, a point for each of {len(points)} methods. "
        "Further up detects better, further left adapts faster. The larger a point, the more "
        "parameters. Bars are 95 % intervals of the difference from the control bias_only (dashed "
        "line), not corrected for the number of methods."
    )
    if untimed:
        description += f" Not shown, as they have no times: {', '.join(untimed)}."
    name = f"{standings.track}{'' if standings.has_labels else '-new'}-standings"
    return Chart(name, description, _specification(points, control, description))


def difference_chart() -> dict[str, Any]:
    """Return the chart of differences between two methods. A script adds data and height."""
    x = {
        "field": "difference",
        "type": "quantitative",
        "axis": {"title": "difference in d_a"},
    }
    y = {
        "field": "task",
        "type": "nominal",
        "sort": None,
        "axis": {"title": None, "labelExpr": "split(datum.label, ', ')"},
    }
    tooltip: list[dict[str, Any]] = [
        {"field": "target"},
        *({"field": field, "format": ".2f"} for field in ("difference", "first", "second")),
    ]
    points = {"type": "point", "filled": True, "size": 45, "opacity": 0.55, "color": BLUE}
    line = {"type": "rule", "strokeDash": [5, 4], "color": INK}
    interval = {"type": "rule", "strokeWidth": 3, "color": VERMILION}
    mean = {"type": "tick", "thickness": 3, "color": VERMILION}
    layers: list[dict[str, Any]] = [
        {"mark": line, "encoding": {"x": {"datum": 0, "type": "quantitative"}}},
        {"mark": points, "encoding": {"x": x, "y": y, "tooltip": tooltip}},
        {
            "mark": interval,
            "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y},
        },
        {"mark": mean, "encoding": {"x": {**x, "field": "mean"}, "y": y}},
    ]
    for layer in layers:
        layer["mark"]["aria"] = False  # a screen reader reads the table
    return {
        "width": "container",
        "layer": layers,
        "config": _STYLE,
    }


def _passes(row: StandingsRow) -> float | None:
    return row.costs.times.passes if row.costs else None


def _point(
    row: StandingsRow, label: str, standings: Standings, pages: Mapping[Method, str]
) -> dict[str, Any]:
    placement, costs = row.placement, row.costs
    assert placement.d_a is not None and costs is not None
    value, difference = placement.d_a.value, placement.difference
    low = high = value
    if difference is not None and difference.interval is not None:
        low, high = (value + end - difference.value for end in difference.interval)
    on_front = any(member.point.method == row.method for member in standings.front)
    return {
        "method": row.method.submission,
        "label": label,
        "page": pages[row.method],
        "standing": _WORDS.get(describe_standing(row), "not distinguished"),
        "d_a": round(value, 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "d_prime": round(placement.d_prime.value, 4) if placement.d_prime else None,
        "passes": float(f"{costs.times.passes:.4g}"),
        "parameters": costs.parameters[1],
        "device": printable(row.device, 120),
        "named": on_front or row.method.submission == FEATURED,
    }


def _is_crowded(point: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a label above this point would cover that of a point slightly higher up."""
    scale = _HEIGHT / (max(p["high"] for p in points) - min(p["low"] for p in points) or 1)
    return any(
        other["named"]
        and (other["d_a"], other["label"]) > (point["d_a"], point["label"])
        and (other["d_a"] - point["d_a"]) * scale < _LABEL_HEIGHT
        and 2 / 3 < other["passes"] / point["passes"] < 3 / 2
        for other in points
    )


def _specification(
    points: Sequence[Mapping[str, Any]], control: float | None, description: str
) -> dict[str, Any]:
    x = {
        "field": "passes",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False, "padding": 50},
        "axis": {"format": "~g", "title": "adaptation time (forward passes)"},
    }
    y = {
        "type": "quantitative",
        "scale": {"zero": False, "padding": 12},
        "axis": {"title": "d_a, mean over tasks"},
    }
    standing = {
        "field": "standing",
        "type": "nominal",
        "scale": {"domain": list(_COLOURS), "range": list(_COLOURS.values())},
        "legend": {"orient": "top", "title": None, "columns": 2, "symbolOpacity": 1},
    }
    chosen = "followed == datum.method"
    opacity = {
        "condition": [
            {"test": f"followed != '' && !({chosen})", "value": 0.15},
            {"param": "shown", "value": 0.9},
        ],
        "value": 0.08,
    }
    size = {
        "field": "parameters",
        "type": "quantitative",
        "scale": {"type": "symlog", "range": [30, 420]},
        "legend": {
            "orient": "bottom",
            "title": "parameters",
            "values": [0, 100, 10_000, 1_000_000],
            "labelExpr": "format(datum.value, ',')",
        },
    }
    tooltip = [
        {"field": "label", "title": "method"},
        {"field": "standing", "title": "against bias_only"},
        {"field": "d_a", "format": ".2f"},
        {"field": "d_prime", "title": "d′", "format": ".2f"},
        {"field": "parameters", "format": ","},
        {"field": "passes", "format": ".3~g"},
        {"field": "device"},
    ]
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rule", "strokeWidth": 1.2},
            "encoding": {
                "x": x,
                "y": {**y, "field": "low"},
                "y2": {"field": "high"},
                "color": standing,
                "opacity": opacity,
            },
        },
        {
            "params": [
                {
                    "name": "shown",
                    "select": {"type": "point", "fields": ["standing"]},
                    "bind": "legend",
                }
            ],
            "mark": {"type": "point", "filled": True, "cursor": "pointer"},
            "encoding": {
                "x": x,
                "y": {**y, "field": "d_a"},
                "color": standing,
                "size": size,
                "opacity": opacity,
                "tooltip": tooltip,
                **_shape(points),
            },
        },
        {
            "transform": [{"filter": f"datum.named || {chosen}"}],
            "mark": {
                "type": "text",
                "align": "left",
                "dx": 10,
                "dy": {"expr": "datum.below ? 12 : -8"},
                "color": INK,
            },
            "encoding": {
                "x": x,
                "y": {**y, "field": "d_a"},
                "text": {"field": "label"},
                "opacity": opacity,
            },
        },
    ]
    if control is not None:
        line = {"type": "rule", "strokeDash": [5, 4], "color": INK}
        layers.insert(0, {"mark": line, "encoding": {"y": {**y, "datum": control}}})
    for layer in layers:
        layer["mark"]["aria"] = False  # a screen reader reads the table, which has the same figures
    return {
        "description": description,
        "width": "container",
        "height": _HEIGHT,
        "data": {"values": list(points)},
        "params": [{"name": "followed", "value": ""}],
        "layer": layers,
        "config": _STYLE,
    }


def _shape(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the encoding that marks devices, if there are several."""
    if len({point["device"] for point in points}) == 1:
        return {}
    legend = {"orient": "bottom", "title": "timed on", "labelLimit": 360, "columns": 1}
    return {"shape": {"field": "device", "type": "nominal", "legend": legend}}
