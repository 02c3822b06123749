"""The recipes of the shipped networks, and the pictures they train on."""

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
from attnbench.stimuli.preprocessing import in_unit_range, normalise, resize_and_crop
from attnbench.stimuli.sources import open_source
from attnbench.tasks import DigitsSource, HubSource


@dataclass(frozen=True)
class Recipe:
    """How a network is trained with labels: AdamW, one-cycle learning rate and cross-entropy.

    All fields are hashed into `sha256`, which the weights files contain; do not rename them.

    Attributes:
        network: the network's name.
        images: the data set and split.
        per_class: the number of pictures of each class, or None for all that the source has.
        epochs: the number of epochs.
        batch: the batch size.
        learning_rate: the largest learning rate of the schedule.
        weight_decay: the weight decay.
        seed: the seed of all random numbers in training.
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
        """The SHA-256 (hex) of the recipe as canonical JSON."""
        return hashlib.sha256(self.as_json().encode()).hexdigest()

    @property
    def mirrored(self) -> bool:
        """Whether pictures are mirrored at random. Digits are not, as that changes what they show."""
        return self.images not in (_MNIST, _DIGITS)

    def as_json(self) -> str:
        """Return the recipe as canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class SelfSupervisedRecipe(Recipe):
    """How a network is trained without labels.

    Attributes:
        objective: the training objective. The other fields are those of `Recipe`.
    """

    objective: Literal["vae", "simclr", "stawm"]


_CIFAR = "uoft-cs/cifar10 (folder cifar10-jpeg), split train[:40000]"
_DIGITS = "digits, split pretrain"
_MNIST = "ylecun/mnist, split train[:50000]"
RECIPES: dict[str, Recipe] = {
    recipe.network: recipe
    for recipe in (
        Recipe("figures-vgg", "figures", 150, 10, 64, 2e-3, 1e-2),
        # A transformer needs more pictures than a convolutional network to get as far.
        Recipe("figures-vit", "figures", 1000, 6, 64, 2e-3, 1e-2),
        Recipe("figures-resnet", "figures", 150, 7, 64, 2e-3, 1e-2),
        Recipe("figures-filter", "figures", 150, 12, 64, 2e-3, 1e-2, seed=1),
        Recipe("digits-cnn", _DIGITS, None, 40, 32, 2e-3, 1e-2),
        Recipe("mnist-cnn", _MNIST, None, 3, 128, 2e-3, 1e-2),
        SelfSupervisedRecipe(
            "figures-simclr", "figures", 150, 20, 256, 2e-3, 1e-4, objective="simclr"
        ),
        SelfSupervisedRecipe("cifar-simclr", _CIFAR, None, 5, 256, 2e-3, 1e-4, objective="simclr"),
        SelfSupervisedRecipe("cifar-vae", _CIFAR, None, 20, 128, 5e-4, 0.0, objective="vae"),
        # As published except for the pictures, and a budget that a CPU manages in 20 minutes.
        SelfSupervisedRecipe("cifar-stawm", _CIFAR, None, 100, 128, 1e-4, 0.0, objective="stawm"),
        SelfSupervisedRecipe(
            "cifar-stawm-small-budget", _CIFAR, None, 1, 64, 5e-4, 0.0, objective="stawm"
        ),
        SelfSupervisedRecipe("mnist-stawm", _MNIST, None, 100, 128, 1e-4, 0.0, objective="stawm"),
        SelfSupervisedRecipe(
            "mnist-stawm-small-budget", _MNIST, None, 1, 64, 5e-4, 0.0, objective="stawm"
        ),
    )
}


@dataclass(frozen=True)
class TrainingSet:
    """Pictures prepared for a network, with labels.

    Attributes:
        pixels: uint8 `[N, 3, H, W]`.
        labels: class indices, int64 `[N]`.
        preprocessing: the network's.
    """

    pixels: NDArray[np.uint8]
    labels: Tensor
    preprocessing: Preprocessing

    def normalised(self, rows: NDArray[np.int64]) -> Tensor:
        """Return images as the network takes them, float32 `[n, 3, H, W]`."""
        return torch.from_numpy(normalise(self.unit_range(rows), self.preprocessing))

    def unit_range(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return pixels in [0, 1], float32 `[n, 3, H, W]`."""
        return in_unit_range(self.pixels[rows])


def load_training_set(
    recipe: Recipe, preprocessing: Preprocessing, data: Path | None
) -> TrainingSet:
    """Load the pictures that a recipe trains on.

    They are clean pictures: networks must not meet a task's noise or blends before adaptation.

    Args:
        recipe: the recipe.
        preprocessing: the network's.
        data: the data folder, or None to load from the hub.

    Raises:
        AttnbenchError: if the data is missing.
    """
    if recipe.images == "figures":
        indices = np.arange(recipe.per_class or 0)
        drawn = [figures.draw("pretrain", label, indices) for label in range(len(figures.CLASSES))]
        labels = np.repeat(np.arange(len(figures.CLASSES)), len(indices))
        return TrainingSet(np.concatenate(drawn), torch.from_numpy(labels), preprocessing)
    source = open_source(_SOURCES[recipe.network], data)
    pictures = source.load(range(len(source.labels)))
    resized = [resize_and_crop(picture, preprocessing) for picture in pictures]
    return TrainingSet(np.stack(resized), torch.from_numpy(source.labels), preprocessing)


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
    """Divide rows into batches of `size`; the last one may be smaller."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
