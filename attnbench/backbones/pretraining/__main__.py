"""`python -m attnbench.backbones.pretraining NAME [--data DIR]`: train a network by its recipe."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import safetensors.torch
import torch

from attnbench.backbones.backbone import Backbone
from attnbench.backbones.pretraining.recipes import (
    RECIPES,
    Pictures,
    Recipe,
    UnlabelledRecipe,
    load_pictures,
)
from attnbench.backbones.pretraining.simclr import train_simclr
from attnbench.backbones.pretraining.stawm import train_stawm, untrained_stawm
from attnbench.backbones.pretraining.supervised import train_with_labels
from attnbench.backbones.pretraining.vae import train_vae
from attnbench.backbones.shipped import load_shipped
from attnbench.resources import weights_folder

Trainer = Callable[[Recipe, Backbone, Pictures], dict[str, str]]
_WITHOUT_LABELS: dict[str, Trainer] = {"vae": train_vae, "simclr": train_simclr}


def pretrain(
    recipe: Recipe, data: Path | None, checkpoint: Path | None = None
) -> tuple[Backbone, dict[str, str]]:
    """A network trained by its recipe, frozen again, and what is to be noted of the training.

    Long trainings keep a `checkpoint`, a file, and go on from it.
    """
    drawing = isinstance(recipe, UnlabelledRecipe) and recipe.objective == "stawm"
    backbone = (
        untrained_stawm(recipe.network) if drawing else load_shipped(recipe.network, untrained=True)
    )
    pictures = load_pictures(recipe, backbone.preprocessing, data)
    train: Trainer = train_with_labels
    if drawing:
        train = functools.partial(train_stawm, checkpoint=checkpoint)
    elif isinstance(recipe, UnlabelledRecipe):
        train = _WITHOUT_LABELS[recipe.objective]
    torch.manual_seed(recipe.seed)
    backbone.requires_grad_(True).train()
    note = train(recipe, backbone, pictures)
    backbone.requires_grad_(False).eval()
    return backbone, note


def write_weights(out: Path, backbone: Backbone, note: dict[str, str]) -> None:
    """The weights as a safetensors file with a note, in half precision.

    That halves the repository; what is measured is measured with these very weights.
    """
    values = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in backbone.state_dict().items()
    }
    safetensors.torch.save_file(values, out, metadata=note)
    out.chmod(0o644)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the named network and write its weights where attnbench looks for them."""
    parser = argparse.ArgumentParser(description="Train a shipped network by its recipe.")
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--data", type=Path, help="the data folder, for MNIST and CIFAR-10")
    parser.add_argument("--out", type=Path, help="the file to write, by default the shipped one")
    options = parser.parse_args(arguments)
    recipe = RECIPES[options.name]
    out = options.out or weights_folder() / f"{recipe.network}.safetensors"
    checkpoint = out.with_suffix(".checkpoint")
    backbone, note = pretrain(recipe, options.data, checkpoint)
    write_weights(
        out, backbone, note | {"recipe": recipe.as_json(), "recipe_sha256": recipe.sha256}
    )
    checkpoint.unlink(missing_ok=True)
    print(f"{out}: {note}")


if __name__ == "__main__":
    main()
