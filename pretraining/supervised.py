"""Supervised training: cross-entropy on labels."""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch.nn import functional

from attnbench.backbones.backbone import Backbone
from pretraining.recipes import Recipe, TrainingSet, batches

_HELD_OUT_SHARE = 0.1


def train_supervised(
    recipe: Recipe, backbone: Backbone, training_set: TrainingSet
) -> dict[str, str]:
    """Train a classifier in place on 90 % of the pictures.

    Args:
        recipe: the recipe.
        backbone: the network, in training mode. It is left in eval mode.
        training_set: the pictures.

    Returns:
        Metadata: the accuracy on the other 10 %, as `held_out_accuracy`.
    """
    labels = training_set.labels
    rng = np.random.default_rng(recipe.seed)
    order = rng.permutation(len(labels))
    held_out, training = np.split(order, [round(_HELD_OUT_SHARE * len(labels))])
    steps = recipe.epochs * -(-len(training) // recipe.batch)
    optimiser = torch.optim.AdamW(
        backbone.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, steps)
    for epoch in range(recipe.epochs):
        losses = []
        for rows in batches(rng.permutation(training), recipe.batch):
            logits = backbone(training_set.normalised(rows))
            loss = functional.cross_entropy(logits, labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {recipe.epochs}: loss {np.mean(losses):.3f}", file=sys.stderr)
    backbone.eval()
    correct = 0
    with torch.no_grad():
        for rows in batches(held_out, recipe.batch):
            predictions = backbone(training_set.normalised(rows)).argmax(1)
            correct += int((predictions == labels[rows]).sum())
    return {"held_out_accuracy": f"{correct / len(held_out):.4f}"}
