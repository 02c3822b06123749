"""Self-supervised training by contrast: SimCLR (Chen et al. 2020, arXiv 2002.05709).

Two random views of each picture (crop, flip, colour) should have codes that are more alike than the
codes of different pictures. The loss is the normalised temperature-scaled cross-entropy (NT-Xent) on
a projection of the code, which is discarded after training.

SimCLR was preferred to VICReg and DINO because it needs neither a second network nor weights for
several losses.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from attnbench.backbones.backbone import Backbone
from pretraining.recipes import Recipe, TrainingSet, batches

TEMPERATURE = 0.5
_CODE_WIDTH, _PROJECTION_WIDTH = 128, 64


def augment(images: Tensor) -> Tensor:
    """Return a random view of each image: crop of 20-100 % of the area, flip, colour jitter, grey.

    Args:
        images: float32 `[n, 3, H, W]` in [0, 1].

    Returns:
        float32 `[n, 3, H, W]` in [0, 1].
    """
    n = len(images)
    scale = torch.empty(n).uniform_(0.2, 1.0).sqrt()
    stretch = torch.empty(n).uniform_(-0.28, 0.28).exp()
    width, height = (scale * stretch).clamp(max=1), (scale / stretch).clamp(max=1)
    x, y = ((torch.rand(n) * 2 - 1) * (1 - side) for side in (width, height))
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    zeros = torch.zeros(n)
    affine = torch.stack([width * flip, zeros, x, zeros, height, y], 1).reshape(n, 2, 3)
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    views = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    grey = views.mean(1, keepdim=True)
    # Colour jitter is applied to 80 % of the views: saturation (0, that is grey, for 20 % of them),
    # then brightness with a tint, and an offset.
    saturation = torch.empty(n, 1, 1, 1).uniform_(0.2, 1.8)
    saturation = torch.where(torch.rand(n, 1, 1, 1) < 0.2, torch.zeros(()), saturation)
    gain = torch.empty(n, 1, 1, 1).uniform_(0.6, 1.4) * torch.empty(n, 3, 1, 1).uniform_(0.8, 1.2)
    offset = torch.empty(n, 1, 1, 1).uniform_(-0.2, 0.2)
    jittered = (grey + saturation * (views - grey)) * gain + offset
    is_jittered = torch.rand(n, 1, 1, 1) < 0.8
    return torch.where(is_jittered, jittered, views).clamp(0, 1)


def contrastive_loss(first: Tensor, second: Tensor) -> Tensor:
    """Return the NT-Xent loss of two views, a scalar.

    Args:
        first: projections of the first views, `[n, d]`.
        second: projections of the second views of the same pictures, `[n, d]`.
    """
    codes = functional.normalize(torch.cat([first, second]), dim=1)
    similarity = codes @ codes.T / TEMPERATURE
    similarity.fill_diagonal_(float("-inf"))  # a view is not compared with itself
    n = len(first)
    matching_view = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return functional.cross_entropy(similarity, matching_view)


def train_simclr(recipe: Recipe, backbone: Backbone, training_set: TrainingSet) -> dict[str, str]:
    """Train an encoder in place by SimCLR.

    Args:
        recipe: the recipe.
        backbone: the encoder, in training mode.
        training_set: the pictures; labels are not used.

    Returns:
        Metadata: the mean loss of the last epoch, as `contrastive_loss`.
    """
    rng = np.random.default_rng(recipe.seed)
    projection = nn.Sequential(
        nn.Linear(_CODE_WIDTH, _CODE_WIDTH), nn.ReLU(), nn.Linear(_CODE_WIDTH, _PROJECTION_WIDTH)
    ).train()
    all_rows = np.arange(len(training_set.pixels))
    parameters = [*backbone.parameters(), *projection.parameters()]
    optimiser = torch.optim.AdamW(
        parameters, recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    steps = recipe.epochs * -(-len(all_rows) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, steps)
    mean, std = (
        torch.tensor(values).reshape(3, 1, 1)
        for values in (training_set.preprocessing.mean, training_set.preprocessing.std)
    )
    mean_loss = 0.0
    for epoch in range(recipe.epochs):
        losses = []
        for rows in batches(rng.permutation(all_rows), recipe.batch):
            images = torch.from_numpy(training_set.unit_range(rows))
            # Both views go through the network in one batch, so batch normalisation sees them alike.
            views = torch.cat([augment(images), augment(images)])
            first, second = projection(backbone((views - mean) / std)).chunk(2)
            loss = contrastive_loss(first, second)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        mean_loss = float(np.mean(losses))
        print(f"epoch {epoch + 1} of {recipe.epochs}: loss {mean_loss:.3f}", file=sys.stderr)
    return {"contrastive_loss": f"{mean_loss:.4f}"}
