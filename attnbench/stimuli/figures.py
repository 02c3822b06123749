"""The procedural picture set that stands in for ImageNet on `mini`.

Its 40 classes are combinations of 5 shapes, 4 textures and 2 colour families. Position, scale,
rotation, hue, lighting, background and clutter vary between pictures. Every picture has a random
generator of its own, so it is the same in whatever order or company it is drawn.

The pixels are part of every record on `mini`. A change in the order of random draws or of
floating-point operations changes them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 48  # pixels
SHAPES = ("disc", "square", "triangle", "star", "ring")
TEXTURES = ("plain", "striped", "dotted", "checked")
COLOURS = ("warm", "cool")
CLASSES: tuple[str, ...] = tuple(
    f"{colour} {texture} {shape}" for shape, texture, colour in product(SHAPES, TEXTURES, COLOURS)
)

# The split's number is part of a picture's seed, which keeps the splits disjoint.
_SPLITS = {"pretrain": 0, "adapt": 1, "test": 2, "filter": 3}
_MAX_CLUTTER = 5  # figures behind the main one
_CLUTTER_OPACITY = 0.85
_PIXEL_NOISE = 0.06  # standard deviation, for pixels in [0, 1]

_PIXEL_CENTRES = np.arange(SIZE, dtype=np.float32) + np.float32(0.5)

_Canvas = NDArray[np.float32]


def draw(split: str, label: int, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Draw pictures of one class.

    Args:
        split: `pretrain`, `adapt`, `test` or `filter`. No picture is in two splits.
        label: the class, an index into `CLASSES`.
        indices: which pictures of the class, int64 `[n]`, any non-negative numbers.

    Returns:
        uint8 `[n, 3, 48, 48]`.
    """
    pictures = [_draw_picture(_rng(split, label, int(i)), label)[0] for i in indices]
    return np.stack(pictures) if pictures else np.zeros((0, 3, SIZE, SIZE), np.uint8)


def masks(split: str, label: int, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return where the main figure can be seen in pictures of one class.

    Args:
        split, label, indices: as for `draw`.

    Returns:
        float32 `[n, 48, 48]`: the share of each pixel that it covers and no clutter hides.
    """
    drawn = [_draw_picture(_rng(split, label, int(i)), label)[1] for i in indices]
    return np.stack(drawn) if drawn else np.zeros((0, SIZE, SIZE), np.float32)


def _rng(split: str, label: int, index: int) -> np.random.Generator:
    return np.random.default_rng([_SPLITS[split], label, index])


def _draw_picture(rng: np.random.Generator, label: int) -> tuple[NDArray[np.uint8], _Canvas]:
    """Draw a background, small figures as clutter, the main figure, and clutter in front of it.

    Returns:
        The picture, and the mask of the main figure.
    """
    shape, remainder = divmod(label, len(TEXTURES) * len(COLOURS))
    texture, colour = divmod(remainder, len(COLOURS))
    canvas = _background(rng)
    for _ in range(rng.integers(2, _MAX_CLUTTER + 1)):
        _paint_figure(canvas, rng, _uniform(rng, 3, 7), *_random_figure(rng), _CLUTTER_OPACITY)
    mask = np.zeros((SIZE, SIZE), np.float32)
    place, coverage = _paint_figure(canvas, rng, _uniform(rng, 8, 15), shape, texture, colour, 1.0)
    mask[place] = coverage
    for _ in range(rng.integers(0, 3)):
        place, coverage = _paint_figure(
            canvas, rng, _uniform(rng, 2, 5), *_random_figure(rng), _CLUTTER_OPACITY
        )
        mask[place] *= 1 - coverage
    lit = canvas * _lighting(rng)
    lit = lit + _PIXEL_NOISE * rng.standard_normal(canvas.shape, dtype=np.float32)
    return (lit.clip(0, 1) * 255 + 0.5).astype(np.uint8), mask


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Return the number that `rng.uniform(low, high)` would, which takes several times as long."""
    return low + (high - low) * rng.random()


def _random_figure(rng: np.random.Generator) -> tuple[int, int, int]:
    """Return the indices of a random shape, texture and colour family."""
    return tuple(int(rng.integers(len(values))) for values in (SHAPES, TEXTURES, COLOURS))  # type: ignore[return-value]


def _background(rng: np.random.Generator) -> _Canvas:
    """Return a linear gradient between two muted colours, `[3, 48, 48]`."""
    first, second = rng.uniform(0.2, 0.8, (2, 3, 1, 1)).astype(np.float32)
    gradient = _gradient(rng)
    background: _Canvas = first * gradient + second * (1 - gradient)
    return background


def _lighting(rng: np.random.Generator) -> _Canvas:
    """Return a factor for every pixel that grows across the picture, `[48, 48]`."""
    return np.float32(0.55) + np.float32(_uniform(rng, 0.2, 0.8)) * _gradient(rng)


def _gradient(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a linear gradient from 0 to 1 in a random direction, `[48, 48]`."""
    angle = _uniform(rng, 0, 2 * np.pi)
    x, y = _PIXEL_CENTRES[None, :], _PIXEL_CENTRES[:, None]
    ramp = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    gradient: NDArray[np.float32] = (ramp - ramp.min()) / (ramp.max() - ramp.min())
    return gradient


def _paint_figure(
    canvas: _Canvas,
    rng: np.random.Generator,
    radius: float,
    shape: int,
    texture: int,
    colour: int,
    opacity: float,
) -> tuple[tuple[slice, slice], _Canvas]:
    """Paint one figure at a random place and angle onto a canvas, in place.

    Args:
        canvas: float32 `[3, 48, 48]`.
        rng: the picture's random generator.
        radius: the figure's radius in pixels.
        shape: index into `SHAPES`.
        texture: index into `TEXTURES`.
        colour: index into `COLOURS`.
        opacity: from 0 to 1.

    Returns:
        The rows and columns that were painted, and the share of each pixel there that is covered.
    """
    centre_x, centre_y = (_uniform(rng, radius * 0.7, SIZE - radius * 0.7) for _ in range(2))
    angle = _uniform(rng, 0, 2 * np.pi)
    light, dark = _shades(rng, colour)
    # No figure extends beyond 1.5 radii, so only that part of the canvas is computed.
    rows, columns = (
        slice(max(0, int(centre - 1.5 * radius)), int(centre + 1.5 * radius) + 1)
        for centre in (centre_y, centre_x)
    )
    x = _PIXEL_CENTRES[None, columns] - np.float32(centre_x)
    y = _PIXEL_CENTRES[rows, None] - np.float32(centre_y)
    # (u, v) are the figure's own coordinates: rotated, and in units of its radius.
    cosine, sine = np.float32(np.cos(angle) / radius), np.float32(np.sin(angle) / radius)
    u, v = x * cosine + y * sine, y * cosine - x * sine
    distance = _DISTANCES[SHAPES[shape]](u, v) * np.float32(radius)
    # Antialiasing: coverage falls from 1 to 0 over the one pixel around the outline.
    coverage = np.float32(opacity) * np.minimum(np.maximum(0.5 - distance, 0), 1)
    paint = dark + (light - dark) * _PATTERNS[TEXTURES[texture]](u, v)
    region = canvas[:, rows, columns]
    region += coverage * (paint - region)
    return (rows, columns), coverage


def _shades(rng: np.random.Generator, colour: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a bright and a dark shade of a random hue, float32 `[3, 1, 1]` each.

    Warm hues are red to yellow, cool ones green to blue.
    """
    hue = _uniform(rng, -0.03, 0.19) if COLOURS[colour] == "warm" else _uniform(rng, 0.4, 0.7)
    pure = [min(max(abs((hue + phase) % 1 * 6 - 3) - 1, 0), 1) for phase in (0, 2 / 3, 1 / 3)]
    saturation = _uniform(rng, 0.35, 0.9)
    light = [(1 - saturation) + saturation * share for share in pure]
    darkness = _uniform(rng, 0.2, 0.45)
    shades = np.array([light, [share * darkness for share in light]], np.float32)
    return shades[0, :, None, None], shades[1, :, None, None]


# Distance functions are negative inside a figure and 0 on its outline, in units of its radius.
def _star_distance(
    u: NDArray[Any], v: NDArray[Any], corners: int, inner_radius: float
) -> NDArray[Any]:
    """Return the approximate distance to a star whose radius oscillates with the angle."""
    angle = np.arctan2(v, u)
    phase = np.abs(((angle / (2 * np.pi) * corners) % 1) - 0.5) * 2
    distance: NDArray[Any] = np.hypot(u, v) - (inner_radius + (1 - inner_radius) * phase**1.5)
    return distance


def _triangle_distance(u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    sine = np.sqrt(3) / 2  # of 60 degrees
    sides = (-v, sine * u + v / 2, -sine * u + v / 2)
    distance: NDArray[Any] = np.maximum.reduce(sides) - 0.6
    return distance


_ShapeFunction = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
_DISTANCES: dict[str, _ShapeFunction] = {
    "disc": lambda u, v: np.hypot(u, v) - 0.85,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) - 0.75,
    "triangle": _triangle_distance,
    "star": lambda u, v: _star_distance(u, v, corners=5, inner_radius=0.42),
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.72) - 0.24,
}
# Patterns are 1 where a texture has the bright shade and 0 where it has the dark one.
_PATTERNS: dict[str, _ShapeFunction] = {
    "plain": lambda u, v: np.ones_like(u),
    "striped": lambda u, v: (np.sin(9 * u) > 0).astype(np.float32),
    "dotted": lambda u, v: ((np.sin(9 * u) * np.sin(9 * v)) < 0.45).astype(np.float32),
    "checked": lambda u, v: ((np.sin(7 * u) * np.sin(7 * v)) > 0).astype(np.float32),
}
