"""Self-supervised training by reconstruction: the beta-VAE in Harris et al. (2019, arXiv 1901.03665).

It is the network that STAWM is compared with there. The encoder has convolutions of 32/64/128/128
channels, 2,048 features, and means and log-variances of 32 dimensions; the decoder mirrors it. It has
1,054,339 parameters. The loss is the squared error summed over the batch plus beta times the KL
divergence averaged over the batch, with beta = 2, as in the authors' code. The shipped backbone is the
encoder up to the means.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone
from pretraining.recipes import Recipe, TrainingSet, batches

LATENT_WIDTH = 32
BETA = 2.0


class BetaVAE(nn.Module):
    """The encoder with a layer for log-variances and a decoder.

    Args:
        encoder: a backbone whose last stage gives the means. It is shared, not copied.
    """

    def __init__(self, encoder: Backbone) -> None:
        super().__init__()
        self.encoder = encoder
        self.log_variance = nn.Linear(2048, LATENT_WIDTH)
        self.decoder = nn.Sequential(
            nn.Linear(LATENT_WIDTH, 2048),
            nn.ReLU(),
            nn.Unflatten(1, (128, 4, 4)),
            # Mirrors the encoder's padding of 1 and 2 pixels: the transposed convolution gives 3 rows
            # and columns too many, which negative padding crops.
            nn.ConvTranspose2d(128, 128, 4, 1, 0),
            nn.ZeroPad2d((-1, -2, -1, -2)),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 3, 4, 2, 1),
            nn.Sigmoid(),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode images, sample a code and decode it.

        Args:
            images: float32 `[n, 3, 32, 32]` in [0, 1].

        Returns:
            Reconstructions `[n, 3, 32, 32]`, means and log-variances `[n, 32]`.
        """
        features = self.encoder.upto("block4")(images)
        mean = self.encoder.after("block4")(features)
        log_variance = self.log_variance(features.flatten(1))
        code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return self.decoder(code), mean, log_variance


def beta_vae_loss(
    images: Tensor, reconstructions: Tensor, mean: Tensor, log_variance: Tensor
) -> Tensor:
    """Return the squared error summed over the batch + beta * the mean KL divergence, a scalar.

    Args:
        images: `[n, 3, H, W]` in [0, 1].
        reconstructions: of the same shape.
        mean: the means of the code, `[n, d]`.
        log_variance: its log-variances, `[n, d]`. The divergence is from the standard normal.
    """
    divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1)
    return ((images - reconstructions) ** 2).sum() + BETA * divergence.mean()


def train_vae(recipe: Recipe, backbone: Backbone, training_set: TrainingSet) -> dict[str, str]:
    """Train an encoder in place, as part of a beta-VAE.

    Args:
        recipe: the recipe.
        backbone: the encoder, in training mode.
        training_set: the pictures; labels are not used.

    Returns:
        Metadata: the last epoch's loss per image, as `loss_per_image`.
    """
    rng = np.random.default_rng(recipe.seed)
    model = BetaVAE(backbone).train()
    optimiser = torch.optim.Adam(model.parameters(), recipe.learning_rate)
    milestones = [round(share * recipe.epochs) for share in (0.5, 0.9)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones)
    all_rows = np.arange(len(training_set.pixels))
    mean_loss = 0.0
    for epoch in range(recipe.epochs):
        total = 0.0
        for rows in batches(rng.permutation(all_rows), recipe.batch):
            images = torch.from_numpy(training_set.unit_range(rows))
            images = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(3), images)
            loss = beta_vae_loss(images, *model(images))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.item()
        schedule.step()
        mean_loss = total / len(all_rows)
        print(
            f"epoch {epoch + 1} of {recipe.epochs}: loss {mean_loss:.2f} per image",
            file=sys.stderr,
        )
    return {"loss_per_image": f"{mean_loss:.3f}"}
