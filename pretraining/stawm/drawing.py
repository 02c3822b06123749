"""STAWM that paints over what it has drawn: each glimpse has a mask, which says where it paints.

This is the drawing of the authors' code for CelebA (`celeba_draw_32.py` of ethanwharris/STAWM), where
the masks were found to divide pictures into parts. Each sketch has a fourth channel, the logits of its
mask. The mask is a relaxed Bernoulli variable of temperature 2 in training (Maddison, Mnih & Teh 2017,
arXiv 1611.00712), and its probability otherwise. A sketch takes the place of what is below it:
canvas (1 - mask) + mask sketch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.distributions import RelaxedBernoulli

from attnbench.adaptation.glimpses import sample
from attnbench.backbones.backbone import Backbone
from pretraining.recipes import TrainingSet, batches
from pretraining.stawm.network import StawmAutoencoder, StawmEncoder
from pretraining.stawm.training import descend, optimiser_and_schedule
from pretraining.vae import beta_vae_loss

_TEMPERATURE = 2.0


@dataclass(frozen=True)
class Drawing:
    """What a network draws of n images in g glimpses.

    Attributes:
        canvases: the canvas after each glimpse, float32 `[n, g, 3, h, w]` in [0, 1].
        masks: how much each glimpse paints over each pixel, float32 `[n, g, h, w]` from 0 to 1.
        windows: the affine transform of the window that each glimpse looks through, `[n, g, 2, 3]`.
        means, log_variances: of the code after each glimpse, `[n, g * 32]`.
    """

    canvases: Tensor
    masks: Tensor
    windows: Tensor
    means: Tensor
    log_variances: Tensor


class PaintingAutoencoder(StawmAutoencoder):
    """The backbone with a decoder that paints one sketch over the other.

    Args:
        backbone: as returned by `untrained_stawm`. It is shared, not copied.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone, channels=4)  # the fourth is the mask

    def draw(self, images: Tensor) -> Drawing:
        """Draw images. In training mode, codes and masks are sampled.

        Args:
            images: float32 `[n, 3, 32, 32]` in [0, 1].
        """
        encoder = cast(StawmEncoder, self.backbone.stage("memory"))
        seen = encoder.glimpses(images)
        canvas = torch.zeros_like(images)
        canvases, masks, means, log_variances = [], [], [], []
        answers = encoder.answers(seen.context, seen.memory_inputs)
        for answer, placement in zip(answers, seen.placements, strict=True):
            mean, log_variance = self.backbone.stage("code")(answer), self.log_variance(answer)
            code = mean
            if self.training:
                code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
            sketch = self.sketch(code)
            mask = self._mask(sketch[:, 3:])
            # Outside of its place, a sketch paints nothing: there, mask and paint are 0.
            paint = torch.cat([mask * sketch[:, :3].sigmoid(), mask], dim=1)
            placed = sample(
                paint, placement, (images.shape[2], images.shape[3]), align_corners=True
            )
            canvas = canvas * (1 - placed[:, 3:]) + placed[:, :3]
            canvases.append(canvas)
            masks.append(placed[:, 3])
            means.append(mean)
            log_variances.append(log_variance)
        return Drawing(
            torch.stack(canvases, 1),
            torch.stack(masks, 1),
            torch.stack(seen.windows, 1),
            torch.cat(means, 1),
            torch.cat(log_variances, 1),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the finished drawings `[n, 3, 32, 32]`, and the means and log-variances `[n, 256]`."""
        drawing = self.draw(images)
        return drawing.canvases[:, -1], drawing.means, drawing.log_variances

    def _mask(self, logits: Tensor) -> Tensor:
        if not self.training:
            return logits.sigmoid()
        return RelaxedBernoulli(torch.tensor(_TEMPERATURE), logits=logits).rsample()


def train_to_paint(
    model: PaintingAutoencoder,
    training_set: TrainingSet,
    *,
    epochs: int,
    batch: int = 64,
    learning_rate: float = 5e-4,
    seed: int = 0,
) -> list[float]:
    """Train in place; see `pretraining.stawm.training.optimiser_and_schedule`.

    Args:
        model: in any mode; it is in evaluation mode afterwards.
        training_set: the pictures; labels are not used.
        epochs, batch, learning_rate, seed: of the training.

    Returns:
        The loss per image of each epoch; see `pretraining.vae.beta_vae_loss`.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model.train()
    steps = epochs * -(-len(training_set.pixels) // batch)
    optimiser, schedule = optimiser_and_schedule(model, learning_rate, steps)
    losses = []
    for _ in range(epochs):
        total = 0.0
        for rows in batches(rng.permutation(len(training_set.pixels)), batch):
            images = torch.from_numpy(training_set.unit_range(rows))
            loss = beta_vae_loss(images, *model(images))
            descend(model, loss, optimiser, schedule)
            total += loss.item()
        losses.append(total / len(training_set.pixels))
    model.eval()
    return losses
