"""The recipes of the shipped networks, and the pictures they ask for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnbench.backbones.backbone import Preprocessing
from attnbench.stimuli import figures
from attnbench.stimuli.preparing import in_unit_range, normalise, resize_and_crop
from attnbench.stimuli.sources import open_source
from attnbench.tasks import DigitsSource, HubSource


@dataclass(frozen=True)
class Recipe:
    """How a network was trained with labels: AdamW, one-cycle learning rate, cross-entropy.

    `per_class` is the number of pictures of each class; None takes all that the source has.
    """

    network: str
    images: str
    per_class: int | None
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    seed: int = 0

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the recipe's canonical JSON."""
        return hashlib.sha256(self.as_json().encode()).hexdigest()

    @property
    def mirrored(self) -> bool:
        """Whether a picture's mirror image is as good as itself; a digit's is not."""
        return self.images not in (_MNIST, _DIGITS)

    def as_json(self) -> str:
        """Canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class UnlabelledRecipe(Recipe):
    """How a network was trained without labels; the rest as in `Recipe`."""

    objective: Literal["vae", "simclr", "stawm"]


_CIFAR = "uoft-cs/cifar10 (folder cifar10-jpeg), split train[:40000]"
_DIGITS = "digits, split pretrain"
_MNIST = "ylecun/mnist, split train[:50000]"
RECIPES: dict[str, Recipe] = {
    recipe.network: recipe
    for recipe in (
        Recipe("figures-vgg", "figures", 150, 10, 64, 2e-3, 1e-2),
        Recipe("figures-filter", "figures", 150, 12, 64, 2e-3, 1e-2, seed=1),
        Recipe("digits-cnn", _DIGITS, None, 40, 32, 2e-3, 1e-2),
        Recipe("mnist-cnn", _MNIST, None, 3, 128, 2e-3, 1e-2),
        UnlabelledRecipe("figures-simclr", "figures", 150, 20, 256, 2e-3, 1e-4, objective="simclr"),
        UnlabelledRecipe("cifar-simclr", _CIFAR, None, 5, 256, 2e-3, 1e-4, objective="simclr"),
        UnlabelledRecipe("cifar-vae", _CIFAR, None, 20, 128, 5e-4, 0.0, objective="vae"),
        # As published but for the pictures, and what of it a processor manages in 20 minutes.
        UnlabelledRecipe("cifar-stawm", _CIFAR, None, 100, 128, 1e-4, 0.0, objective="stawm"),
        UnlabelledRecipe(
            "cifar-stawm-small-budget", _CIFAR, None, 1, 64, 5e-4, 0.0, objective="stawm"
        ),
        UnlabelledRecipe("mnist-stawm", _MNIST, None, 100, 128, 1e-4, 0.0, objective="stawm"),
        UnlabelledRecipe(
            "mnist-stawm-small-budget", _MNIST, None, 1, 64, 5e-4, 0.0, objective="stawm"
        ),
    )
}


@dataclass(frozen=True)
class Pictures:
    """Prepared pictures, uint8 `[N, 3, H, W]`, with labels, int64 `[N]`."""

    pixels: NDArray[np.uint8]
    labels: Tensor
    preprocessing: Preprocessing

    def batch(self, rows: NDArray[np.int64]) -> Tensor:
        """These rows as the network takes them, float32 `[n, 3, H, W]`."""
        return torch.from_numpy(normalise(self.shares(rows), self.preprocessing))

    def shares(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """These rows as pixels in [0, 1], float32 `[n, 3, H, W]`."""
        return in_unit_range(self.pixels[rows])


def load_pictures(recipe: Recipe, preprocessing: Preprocessing, data: Path | None) -> Pictures:
    """What the recipe trains on. Raises AttnbenchError where the data is not there.

    Recipes take clean pictures only: what makes a task hard is not to be seen in pre-training.
    """
    if recipe.images == "figures":
        each = np.arange(recipe.per_class or 0)
        drawn = [figures.draw("pretrain", label, each) for label in range(len(figures.CLASSES))]
        labels = np.repeat(np.arange(len(figures.CLASSES)), len(each))
        return Pictures(np.concatenate(drawn), torch.from_numpy(labels), preprocessing)
    source = open_source(_SOURCES[recipe.network], data)
    pictures = source.load(range(len(source.labels)))
    resized = [resize_and_crop(picture, preprocessing) for picture in pictures]
    return Pictures(np.stack(resized), torch.from_numpy(source.labels), preprocessing)


CIFAR_SOURCE = HubSource(
    kind="hub", hub="uoft-cs/cifar10", folder="cifar10-jpeg", split="train[:40000]", image="img"
)
MNIST_SOURCE = HubSource(kind="hub", hub="ylecun/mnist", folder="mnist", split="train[:50000]")
_SOURCES: dict[str, DigitsSource | HubSource] = {
    "digits-cnn": DigitsSource(kind="digits", split="pretrain"),
    "mnist-cnn": MNIST_SOURCE,
    "cifar-vae": CIFAR_SOURCE,
    "cifar-simclr": CIFAR_SOURCE,
    "cifar-stawm": CIFAR_SOURCE,
    "cifar-stawm-small-budget": CIFAR_SOURCE,
    "mnist-stawm": MNIST_SOURCE,
    "mnist-stawm-small-budget": MNIST_SOURCE,
}


def batches(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """The rows in parts of `size`, the last one smaller."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
