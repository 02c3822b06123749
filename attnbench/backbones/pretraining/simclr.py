"""Training without labels by comparing: SimCLR (Chen et al. 2020, arXiv 2002.05709).

Two views of each picture (random crop, flip, colour) are to have codes that are more alike than
those of different pictures: the normalised temperature-scaled cross-entropy, on a projection that
is thrown away afterwards. Chosen over VICReg and DINO as it needs neither a second network nor
weights for several losses.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from attnbench.backbones.backbone import Backbone
from attnbench.backbones.pretraining.recipes import Pictures, Recipe, batches

TEMPERATURE = 0.5
_CODE, _PROJECTION = 128, 64


def augment(images: Tensor) -> Tensor:
    """Another view of each image, `[n, 3, H, W]` in [0, 1]: crop of 20-100 %, flip, colour, grey."""
    n = len(images)
    scale = torch.empty(n).uniform_(0.2, 1.0).sqrt()
    stretch = torch.empty(n).uniform_(-0.28, 0.28).exp()
    width, height = (scale * stretch).clamp(max=1), (scale / stretch).clamp(max=1)
    x, y = ((torch.rand(n) * 2 - 1) * (1 - side) for side in (width, height))
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    nought = torch.zeros(n)
    affine = torch.stack([width * flip, nought, x, nought, height, y], 1).reshape(n, 2, 3)
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    views = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    grey = views.mean(1, keepdim=True)
    # saturation, brightness and contrast, and a tint, in four of five views; grey in one of five
    saturation = torch.empty(n, 1, 1, 1).uniform_(0.2, 1.8)
    saturation = torch.where(torch.rand(n, 1, 1, 1) < 0.2, torch.zeros(()), saturation)
    gain = torch.empty(n, 1, 1, 1).uniform_(0.6, 1.4) * torch.empty(n, 3, 1, 1).uniform_(0.8, 1.2)
    shift = torch.empty(n, 1, 1, 1).uniform_(-0.2, 0.2)
    coloured = (grey + saturation * (views - grey)) * gain + shift
    change = torch.rand(n, 1, 1, 1) < 0.8
    return torch.where(change, coloured, views).clamp(0, 1)


def contrastive_loss(one: Tensor, other: Tensor) -> Tensor:
    """NT-Xent of two views' projections, `[n, d]` each: row i of one belongs to row i of the other."""
    codes = functional.normalize(torch.cat([one, other]), dim=1)
    similarity = codes @ codes.T / TEMPERATURE
    similarity.fill_diagonal_(float("-inf"))
    n = len(one)
    partner = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return functional.cross_entropy(similarity, partner)


def train_simclr(recipe: Recipe, backbone: Backbone, pictures: Pictures) -> dict[str, str]:
    """Train `backbone` by SimCLR; its last epoch's mean loss, as a note."""
    rng = np.random.default_rng(recipe.seed)
    projection = nn.Sequential(
        nn.Linear(_CODE, _CODE), nn.ReLU(), nn.Linear(_CODE, _PROJECTION)
    ).train()
    everything = np.arange(len(pictures.pixels))
    parameters = [*backbone.parameters(), *projection.parameters()]
    optimiser = torch.optim.AdamW(
        parameters, recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    steps = recipe.epochs * -(-len(everything) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, steps)
    mean, std = (
        torch.tensor(values).reshape(3, 1, 1)
        for values in (pictures.preprocessing.mean, pictures.preprocessing.std)
    )
    mean_loss = 0.0
    for epoch in range(recipe.epochs):
        losses = []
        for rows in batches(rng.permutation(everything), recipe.batch):
            images = torch.from_numpy(pictures.shares(rows))
            views = torch.cat([augment(images), augment(images)])
            one, other = projection(backbone((views - mean) / std)).chunk(2)
            loss = contrastive_loss(one, other)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        mean_loss = float(np.mean(losses))
        print(f"epoch {epoch + 1} of {recipe.epochs}: loss {mean_loss:.3f}", file=sys.stderr)
    return {"contrastive_loss": f"{mean_loss:.4f}"}
