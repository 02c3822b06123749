"""The drawn picture set that stands in for ImageNet on `mini`: figures of shape, texture and colour.

Forty classes, 5 shapes x 4 textures x 2 colour families. Position, scale, rotation, hue, lighting,
background and clutter vary from picture to picture. Every picture has a random generator of its
own, so it is the same wherever and with whatever else it is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 48
SHAPES = ("disc", "square", "triangle", "star", "ring")
TEXTURES = ("plain", "striped", "dotted", "checked")
COLOURS = ("warm", "cool")
CLASSES: tuple[str, ...] = tuple(
    f"{colour} {texture} {shape}" for shape, texture, colour in product(SHAPES, TEXTURES, COLOURS)
)

_SPLITS = {"pretrain": 0, "adapt": 1, "test": 2, "filter": 3}
_CLUTTER = 5
_CLUTTER_OPACITY = 0.85
_PIXEL_NOISE = 0.06

_STEPS = np.arange(SIZE, dtype=np.float32) + np.float32(0.5)

Field = NDArray[np.float32]


def draw(split: str, label: int, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Pictures of one class.

    Args:
        split: `pretrain`, `adapt`, `test` or `filter`; no picture is in two of them.
        label: index into `CLASSES`.
        indices: which pictures of the class, int64 `[n]`, any non-negative numbers.

    Returns:
        uint8 `[n, 3, 48, 48]`.
    """
    pictures = [
        _draw_one(np.random.default_rng([_SPLITS[split], label, int(i)]), label) for i in indices
    ]
    return np.stack(pictures) if pictures else np.zeros((0, 3, SIZE, SIZE), np.uint8)


def _draw_one(rng: np.random.Generator, label: int) -> NDArray[np.uint8]:
    shape, rest = divmod(label, len(TEXTURES) * len(COLOURS))
    texture, colour = divmod(rest, len(COLOURS))
    canvas = _background(rng)
    for _ in range(rng.integers(2, _CLUTTER + 1)):
        _paint(canvas, rng, rng.uniform(3, 7), *_anything(rng), _CLUTTER_OPACITY)
    _paint(canvas, rng, rng.uniform(8, 15), shape, texture, colour, 1.0)
    for _ in range(rng.integers(0, 3)):
        _paint(canvas, rng, rng.uniform(2, 5), *_anything(rng), _CLUTTER_OPACITY)
    lit = canvas * _light(rng) + _PIXEL_NOISE * rng.standard_normal(canvas.shape, dtype=np.float32)
    return (lit.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _anything(rng: np.random.Generator) -> tuple[int, int, int]:
    return tuple(int(rng.integers(len(kinds))) for kinds in (SHAPES, TEXTURES, COLOURS))  # type: ignore[return-value]


def _background(rng: np.random.Generator) -> Field:
    """A slope between two dull colours."""
    one, other = rng.uniform(0.2, 0.8, (2, 3, 1, 1)).astype(np.float32)
    slope = _slope(rng)
    mixed: Field = one * slope + other * (1 - slope)
    return mixed


def _light(rng: np.random.Generator) -> Field:
    return np.float32(0.55) + np.float32(rng.uniform(0.2, 0.8)) * _slope(rng)


def _slope(rng: np.random.Generator) -> Field:
    """From 0 to 1 across the picture in a random direction, `[48, 48]`."""
    angle = rng.uniform(0, 2 * np.pi)
    ramp = _STEPS[None, :] * np.float32(np.cos(angle)) + _STEPS[:, None] * np.float32(np.sin(angle))
    slope: Field = (ramp - ramp.min()) / (ramp.max() - ramp.min())
    return slope


def _paint(
    canvas: Field,
    rng: np.random.Generator,
    radius: float,
    shape: int,
    texture: int,
    colour: int,
    opacity: float,
) -> None:
    """Draw one figure onto the canvas, `[3, 48, 48]`, in place; `radius` in pixels."""
    centre_x, centre_y = rng.uniform(radius * 0.7, SIZE - radius * 0.7, 2)
    angle = rng.uniform(0, 2 * np.pi)
    light, dark = _colours(rng, colour)
    # Nothing of a figure reaches beyond 1.5 radii: the rest of the canvas is left alone.
    rows, columns = (
        slice(max(0, int(centre - 1.5 * radius)), int(centre + 1.5 * radius) + 1)
        for centre in (centre_y, centre_x)
    )
    x, y = _STEPS[None, columns] - np.float32(centre_x), _STEPS[rows, None] - np.float32(centre_y)
    cosine, sine = np.float32(np.cos(angle) / radius), np.float32(np.sin(angle) / radius)
    u, v = x * cosine + y * sine, y * cosine - x * sine
    distance = _DISTANCES[SHAPES[shape]](u, v) * np.float32(radius)
    cover = np.float32(opacity) * np.clip(0.5 - distance, 0, 1)
    paint = dark + (light - dark) * _PATTERNS[TEXTURES[texture]](u, v)
    part = canvas[:, rows, columns]
    part += cover * (paint - part)


def _colours(rng: np.random.Generator, colour: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """A bright and a dark shade of one hue: warm is red to yellow, cool green to blue."""
    hue = rng.uniform(-0.03, 0.19) if COLOURS[colour] == "warm" else rng.uniform(0.4, 0.7)
    phases = np.array([0.0, 2 / 3, 1 / 3])
    pure = np.clip(np.abs(((hue + phases) % 1) * 6 - 3) - 1, 0, 1)
    saturation = rng.uniform(0.35, 0.9)
    light = (1 - saturation) + saturation * pure
    dark = light * rng.uniform(0.2, 0.45)
    return light[:, None, None].astype(np.float32), dark[:, None, None].astype(np.float32)


def _polar(u: NDArray[Any], v: NDArray[Any], corners: int, dent: float) -> NDArray[Any]:
    """Distance (about) to a regular polygon or star: a radius that swings with the angle."""
    angle = np.arctan2(v, u)
    swing = np.abs(((angle / (2 * np.pi) * corners) % 1) - 0.5) * 2
    distance: NDArray[Any] = np.hypot(u, v) - (dent + (1 - dent) * swing**1.5)
    return distance


def _triangle(u: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    third = np.sqrt(3) / 2
    sides = (-v, third * u + v / 2, -third * u + v / 2)
    distance: NDArray[Any] = np.maximum.reduce(sides) - 0.6
    return distance


_Distance = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
_DISTANCES: dict[str, _Distance] = {
    "disc": lambda u, v: np.hypot(u, v) - 0.85,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) - 0.75,
    "triangle": _triangle,
    "star": lambda u, v: _polar(u, v, corners=5, dent=0.42),
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.72) - 0.24,
}
_PATTERNS: dict[str, _Distance] = {
    "plain": lambda u, v: np.ones_like(u),
    "striped": lambda u, v: (np.sin(9 * u) > 0).astype(np.float32),
    "dotted": lambda u, v: ((np.sin(9 * u) * np.sin(9 * v)) < 0.45).astype(np.float32),
    "checked": lambda u, v: ((np.sin(7 * u) * np.sin(7 * v)) > 0).astype(np.float32),
}
