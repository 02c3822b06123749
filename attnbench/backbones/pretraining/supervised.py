"""Training with labels: cross-entropy."""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch.nn import functional

from attnbench.backbones.backbone import Backbone
from attnbench.backbones.pretraining.recipes import Pictures, Recipe, batches

_HELD_OUT_SHARE = 0.1


def train_with_labels(recipe: Recipe, backbone: Backbone, pictures: Pictures) -> dict[str, str]:
    """Train on all but a tenth of the pictures; the accuracy on that tenth, as a note."""
    labels = pictures.labels
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
            loss = functional.cross_entropy(backbone(pictures.batch(rows)), labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {recipe.epochs}: loss {np.mean(losses):.3f}", file=sys.stderr)
    backbone.eval()
    right = 0
    with torch.no_grad():
        for rows in batches(held_out, recipe.batch):
            right += int((backbone(pictures.batch(rows)).argmax(1) == labels[rows]).sum())
    return {"held_out_accuracy": f"{right / len(held_out):.4f}"}
