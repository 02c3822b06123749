"""Train a shipped network: `python -m attnbench.backbones.pretrain NAME [--data DIR]`.

A recipe is data; its hash is written into the weights file, so that a file can be told from the
recipe that made it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from attnbench.backbones.backbone import Backbone
from attnbench.backbones.shipped import load_shipped
from attnbench.resources import weights_folder
from attnbench.stimuli import figures
from attnbench.stimuli.episodes import normalise, resize_and_crop
from attnbench.stimuli.sources import open_source
from attnbench.tasks import DigitsSource, HubSource

# Recipes take clean pictures only: what makes a task hard is not to be seen in pre-training.
_HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Recipe:
    """How a network was trained: AdamW with a one-cycle learning rate on cross-entropy.

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
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


RECIPES = {
    "figures-vgg": Recipe("figures-vgg", "figures", 150, 10, 64, 2e-3, 1e-2),
    "digits-cnn": Recipe("digits-cnn", "digits, split pretrain", None, 40, 32, 2e-3, 1e-2),
    "mnist-cnn": Recipe("mnist-cnn", "ylecun/mnist, split train[:50000]", None, 3, 128, 2e-3, 1e-2),
}


def pretrain(recipe: Recipe, data: Path | None) -> tuple[Backbone, float]:
    """Train on all but a tenth of the pictures; the network, and its accuracy on that tenth."""
    backbone = load_shipped(recipe.network, untrained=True)
    images, labels = _pictures(recipe, backbone, data)
    rng = np.random.default_rng(recipe.seed)
    order = rng.permutation(len(labels))
    held_out, training = np.split(order, [round(_HELD_OUT_SHARE * len(labels))])
    torch.manual_seed(recipe.seed)
    backbone.requires_grad_(True).train()
    steps = recipe.epochs * -(-len(training) // recipe.batch)
    optimiser = torch.optim.AdamW(
        backbone.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, steps)
    for epoch in range(recipe.epochs):
        losses = []
        for rows in _batches(rng.permutation(training), recipe.batch):
            loss = functional.cross_entropy(backbone(_batch(images, rows, backbone)), labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {recipe.epochs}: loss {np.mean(losses):.3f}", file=sys.stderr)
    backbone.requires_grad_(False).eval()
    right = 0
    with torch.no_grad():
        for rows in _batches(held_out, recipe.batch):
            right += int((backbone(_batch(images, rows, backbone)).argmax(1) == labels[rows]).sum())
    return backbone, right / len(held_out)


def _pictures(
    recipe: Recipe, backbone: Backbone, data: Path | None
) -> tuple[NDArray[np.uint8], Tensor]:
    """All pictures, uint8 `[N, 3, H, W]`, and their labels, int64 `[N]`."""
    if recipe.network == "figures-vgg":
        each = np.arange(recipe.per_class or 0)
        drawn = [figures.draw("pretrain", label, each) for label in range(len(figures.CLASSES))]
        labels = np.repeat(np.arange(len(figures.CLASSES)), len(each))
        return np.concatenate(drawn), torch.from_numpy(labels)
    source = open_source(
        DigitsSource(kind="digits", split="pretrain")
        if recipe.network == "digits-cnn"
        else HubSource(kind="hub", hub="ylecun/mnist", folder="mnist", split="train[:50000]"),
        data,
    )
    pictures = source.load(range(len(source.labels)))
    resized = [resize_and_crop(picture, backbone.preprocessing) for picture in pictures]
    return np.stack(resized), torch.from_numpy(source.labels)


def _batches(rows: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _batch(images: NDArray[np.uint8], rows: NDArray[np.int64], backbone: Backbone) -> Tensor:
    pixels = images[rows].astype(np.float32) / np.float32(255)
    return torch.from_numpy(normalise(pixels, backbone.preprocessing))


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the named network and write its weights where attnbench looks for them."""
    parser = argparse.ArgumentParser(description="Train a shipped network by its recipe.")
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, help="a folder with `mnist` in it, for mnist-cnn")
    parser.add_argument("--out", type=Path, help="the file to write, by default the shipped one")
    options = parser.parse_args(arguments)
    recipe = RECIPES[options.name]
    backbone, accuracy = pretrain(recipe, options.data)
    out = options.out or weights_folder() / f"{recipe.network}.safetensors"
    note = {
        "recipe": json.dumps(asdict(recipe), sort_keys=True),
        "recipe_sha256": recipe.sha256,
        "held_out_accuracy": f"{accuracy:.4f}",
    }
    safetensors.torch.save_file(backbone.state_dict(), out, metadata=note)
    print(f"{out}: held-out accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main()
