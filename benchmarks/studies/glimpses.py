"""Do windows beat looking everywhere at low resolution? d_a against the number of glimpses.

    python -m benchmarks.studies.glimpses [TARGETS]

The study has two kinds of digits, all of them scikit-learn's and seen by `shipped/digits-cnn`:

- **noisy**: the episodes of `noisy-mnist` on `mini`. A window is half as wide as the image, 14 of
  28 pixels.
- **cluttered**: a digit of 28 pixels at a random position on a canvas of 56 pixels, among four
  pieces of other digits. A window is 28 pixels wide, the size of the backbone's own images.

`ram`, `edram` and `stawm` adapt once and are read out after each of their glimpses. They are
compared with `last_layer` on the whole image at low resolution, and on a window at its centre. Both
have about as many pixels as the glimpses together. At low resolution, the image is enlarged to its
own size again, so that a digit has the size that the backbone knows. Printed are a table of each
kind: d_a, the mean over targets with its 95 % interval. TARGETS is the number of digits, by default
all ten.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn.functional import interpolate

import attnbench
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.statistics.detection import detect
from attnbench.statistics.intervals import mean_interval
from attnbench.stimuli.embedded import Digits
from attnbench.stimuli.preprocessing import Images, in_unit_range, normalise, resize_and_crop
from attnbench.submission import load_submission
from tests.submissions.adapted import load_program

BACKBONE = "shipped/digits-cnn"
METHODS = ("ram", "edram", "stawm")
GLIMPSES = 4

CANVAS, DIGIT, PIECE = 56, 28, 12  # sides in pixels
PIECES = 4  # of clutter on a canvas
ADAPT, TEST_POSITIVES, TEST_NEGATIVES = 32, 80, 240  # images of a cluttered target


@dataclass(frozen=True)
class Trial:
    """What one target is adapted to and tested on.

    Attributes:
        backbone: with its target set.
        pos, neg: images to adapt on, `[n, 3, h, w]`.
        images: test images, `[n, 3, h, w]`.
        present: whether the target is in each of them, bool `[n]`.
    """

    backbone: Backbone
    pos: Tensor
    neg: Tensor
    images: Tensor
    present: NDArray[np.bool_]


class LowResolution(nn.Module):
    """Reduce images `[n, 3, h, w]` to `side` x `side` pixels, and enlarge them to their size."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        small = interpolate(images, (self.side, self.side), mode="bilinear", antialias=True)
        return interpolate(small, images.shape[2:], mode="bilinear")


class CentreWindow(nn.Module):
    """Crop the centre of images `[n, 3, h, w]`, and enlarge it to `least` pixels if it is smaller."""

    def __init__(self, side: int, least: int) -> None:
        super().__init__()
        self.side, self.least = side, least

    def forward(self, images: Tensor) -> Tensor:
        top, left = ((length - self.side) // 2 for length in images.shape[2:])
        window = images[:, :, top : top + self.side, left : left + self.side]
        if self.side >= self.least:
            return window
        return interpolate(window, (self.least, self.least), mode="bilinear")


def noisy(targets: int) -> Iterator[Trial]:
    """Yield the first episodes of `noisy-mnist` on `mini`."""
    for digit in range(targets):
        episode = attnbench.episode("noisy-mnist", str(digit), track="mini", backbone=BACKBONE)
        yield Trial(episode.backbone, episode.pos, episode.neg, episode.images, episode.present)


def cluttered(targets: int) -> Iterator[Trial]:
    """Yield cluttered digits. The pictures on canvases to adapt on and to test on are disjoint."""
    backbone = load(BACKBONE)
    for digit in range(targets):
        rng = np.random.default_rng([0, digit])
        adapt, test = Canvases("adapt", backbone), Canvases("test", backbone)
        with_target = copy.deepcopy(backbone)
        with_target.target = digit
        positives = test.draw(digit, TEST_POSITIVES, rng, present=True)
        negatives = test.draw(digit, TEST_NEGATIVES, rng, present=False)
        yield Trial(
            with_target,
            adapt.draw(digit, ADAPT, rng, present=True),
            adapt.draw(digit, ADAPT, rng, present=False),
            torch.cat([positives, negatives]),
            np.arange(TEST_POSITIVES + TEST_NEGATIVES) < TEST_POSITIVES,
        )


class Canvases:
    """Draws digits at random positions among pieces of other digits.

    Args:
        split: the digits to draw; see `Digits`.
        backbone: its preprocessing is applied.
    """

    def __init__(self, split: str, backbone: Backbone) -> None:
        digits = Digits(split)
        pictures = digits.load(range(len(digits.labels)))
        self.labels = digits.labels
        self.preprocessing = backbone.preprocessing
        self.pictures = in_unit_range(
            np.stack([resize_and_crop(picture, self.preprocessing) for picture in pictures])
        )

    def draw(self, target: int, count: int, rng: np.random.Generator, *, present: bool) -> Tensor:
        """Return normalised images `[count, 3, 56, 56]`, all with the target or all without it.

        No piece of clutter is of the target.
        """
        is_target = self.labels == target
        rows = rng.choice(np.flatnonzero(is_target == present), count)
        others = np.flatnonzero(~is_target)
        images = np.stack([self._canvas(row, others, rng) for row in rows])
        return torch.from_numpy(normalise(images, self.preprocessing))

    def _canvas(self, row: int, others: NDArray[np.int64], rng: np.random.Generator) -> Images:
        canvas = np.zeros((3, CANVAS, CANVAS), np.float32)
        _put(self.pictures[row], canvas, rng)
        for other in rng.choice(others, PIECES):
            top, left = rng.integers(DIGIT - PIECE + 1, size=2)
            _put(self.pictures[other, :, top : top + PIECE, left : left + PIECE], canvas, rng)
        return canvas


def _put(picture: Images, canvas: Images, rng: np.random.Generator) -> None:
    """Draw a picture `[3, h, w]` at a random position. The brighter pixel is seen."""
    side = picture.shape[1]
    top, left = rng.integers(CANVAS - side + 1, size=2)
    place = canvas[:, top : top + side, left : left + side]
    np.maximum(place, picture, out=place)


def adapted(name: str, trial: Trial, **overrides: float) -> nn.Module:
    """Adapt with a submission and return the detector."""
    torch.manual_seed(0)
    settings = load_submission(name).hyperparameters_for(trial.backbone.name) | overrides
    backbone = copy.deepcopy(trial.backbone)
    detector: nn.Module = load_program(name).adapt(backbone, trial.pos, trial.neg, **settings)
    return detector.eval()


def behind(view: nn.Module, trial: Trial) -> Trial:
    """Return the trial as it is seen through a view, which maps images to images."""
    images = (view(images) for images in (trial.pos, trial.neg, trial.images))
    return Trial(trial.backbone, *images, trial.present)


def sensitivity(score: Callable[[Tensor], Tensor], trial: Trial) -> float:
    """Return d_a of scores of the test images."""
    with torch.no_grad():
        scores = torch.cat([score(images) for images in trial.images.split(64)])
    return detect(scores.numpy(), trial.present).d_a


def results(trial: Trial, scale: float) -> dict[str, list[float]]:
    """Return d_a of one target.

    Args:
        trial: the target.
        scale: the sides of a window relative to the image.

    Returns:
        By row of the table: a value for each number of glimpses, or a single value.
    """
    budgets = range(1, GLIMPSES + 1)
    found: dict[str, list[float]] = {}
    for name in METHODS:
        detector = adapted(name, trial, window_scale=scale, glimpses=GLIMPSES)
        found[f"`{name}`"] = [
            sensitivity(partial(detector.predict, budget=budget), trial) for budget in budgets
        ]
    size, own_size = trial.images.shape[2], trial.backbone.preprocessing.size
    sides = [min(size, round(scale * size * budget**0.5)) for budget in budgets]
    views: dict[str, Callable[[int], nn.Module]] = {
        "whole image, low resolution": LowResolution,
        "one central window": lambda side: CentreWindow(side, own_size),
    }
    for row, view in views.items():
        seen = [behind(view(side), trial) for side in sides]
        found[row] = [sensitivity(adapted("last_layer", one), one) for one in seen]
    for name in ("bias_only", "last_layer"):
        found[f"whole image, full resolution, `{name}`"] = [
            sensitivity(adapted(name, trial), trial)
        ]
    return found


def cell(values: list[float]) -> str:
    """Return the mean of a value for each target, with its 95 % interval."""
    low, high = mean_interval(np.array(values))
    return f"{np.mean(values):.2f} [{low:.2f}, {high:.2f}]"


def table(trials: Iterator[Trial], scale: float) -> str:
    """Return the Markdown table of one kind of digits."""
    targets = [results(trial, scale) for trial in trials]
    rows = [
        (
            row,
            *(
                cell(list(values))
                for values in zip(*(found[row] for found in targets), strict=True)
            ),
        )
        for row in targets[0]
    ]
    headers = ("d_a after", *(f"{budget} glimpses" for budget in range(1, GLIMPSES + 1)))
    return tabulate(rows, headers, tablefmt="github")


def main(targets: int) -> None:
    """Print both tables."""
    print(f"Noisy digits:\n\n{table(noisy(targets), 0.5)}\n", flush=True)
    print(f"Shifted, cluttered digits:\n\n{table(cluttered(targets), DIGIT / CANVAS)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
