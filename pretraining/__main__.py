"""`python -m pretraining NAME [--data DIR]`: train a network by its recipe."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import safetensors.torch
import torch

from attnbench.backbones.backbone import Backbone
from attnbench.backbones.shipped import load_shipped
from attnbench.resources import weights_folder
from pretraining.recipes import (
    RECIPES,
    Recipe,
    SelfSupervisedRecipe,
    TrainingSet,
    load_training_set,
)
from pretraining.simclr import train_simclr
from pretraining.stawm.network import untrained_stawm
from pretraining.stawm.training import train_stawm
from pretraining.supervised import train_supervised
from pretraining.vae import train_vae

Trainer = Callable[[Recipe, Backbone, TrainingSet], dict[str, str]]


def pretrain(
    recipe: Recipe, data: Path | None, checkpoint: Path | None = None
) -> tuple[Backbone, dict[str, str]]:
    """Train a network by its recipe.

    Args:
        recipe: the recipe.
        data: the data folder, or None to load pictures from the hub.
        checkpoint: a file from which an interrupted training continues. Only STAWM, whose training
            is long, writes one.

    Returns:
        The network, frozen and in eval mode, and metadata about the training.

    Raises:
        AttnbenchError: if the pictures are missing, or the checkpoint belongs to another recipe.
    """
    objective = recipe.objective if isinstance(recipe, SelfSupervisedRecipe) else "supervised"
    trainers: dict[str, Trainer] = {
        "supervised": train_supervised,
        "vae": train_vae,
        "simclr": train_simclr,
        "stawm": functools.partial(train_stawm, checkpoint=checkpoint),
    }
    if objective == "stawm":
        backbone = untrained_stawm(recipe.network)
    else:
        backbone = load_shipped(recipe.network, untrained=True)
    training_set = load_training_set(recipe, backbone.preprocessing, data)
    # Seeded after the network is built and the pictures are loaded, so that neither affects training.
    torch.manual_seed(recipe.seed)
    backbone.requires_grad_(True).train()
    metadata = trainers[objective](recipe, backbone, training_set)
    backbone.requires_grad_(False).eval()
    return backbone, metadata


def write_weights(out: Path, backbone: Backbone, metadata: dict[str, str]) -> None:
    """Write the weights as a safetensors file in half precision.

    Half precision halves the size of the repository. Everything reported about a network is measured
    with the weights in this file, so the effect of rounding is included.

    Args:
        out: the file.
        backbone: the trained network.
        metadata: stored in the file's header.
    """
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in backbone.state_dict().items()
    }
    safetensors.torch.save_file(tensors, out, metadata=metadata)
    out.chmod(0o644)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the named network and write its weights to where attnbench loads them from."""
    parser = argparse.ArgumentParser(
        prog="python -m pretraining", description="Train a shipped network by its recipe."
    )
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument(
        "--data", type=Path, help="data folder with MNIST and CIFAR-10 (default: load from the hub)"
    )
    parser.add_argument(
        "--out", type=Path, help="weights file to write (default: the one attnbench ships)"
    )
    options = parser.parse_args(arguments)
    recipe = RECIPES[options.name]
    out = options.out or weights_folder() / f"{recipe.network}.safetensors"
    checkpoint = out.with_suffix(".checkpoint")
    backbone, metadata = pretrain(recipe, options.data, checkpoint)
    write_weights(
        out, backbone, metadata | {"recipe": recipe.as_json(), "recipe_sha256": recipe.sha256}
    )
    checkpoint.unlink(missing_ok=True)
    print(f"{out}: {metadata}")


if __name__ == "__main__":
    main()
