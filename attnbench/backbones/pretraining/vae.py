"""Training without labels by drawing: the beta-VAE that STAWM is compared with (Harris et al. 2019).

Encoder conv 32/64/128/128 -> 2,048 -> mean and log-variance of 32 dimensions, mirrored decoder:
1,054,339 parameters. Loss: squared error summed over the batch + beta x KL averaged over the batch,
with beta = 2, as their released code applies it. The shipped backbone is the encoder up to the means.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone
from attnbench.backbones.pretraining.recipes import Pictures, Recipe, batches

LATENT = 32
BETA = 2.0


class BetaVAE(nn.Module):
    """The encoder's stages (a backbone whose last stage gives the means), log-variance, decoder."""

    def __init__(self, encoder: Backbone) -> None:
        super().__init__()
        self.encoder = encoder
        self.log_variance = nn.Linear(2048, LATENT)
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, 2048),
            nn.ReLU(),
            nn.Unflatten(1, (128, 4, 4)),
            # one row and one column more than wanted at each side: cut off by the negative padding
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
        """Drawn images `[n, 3, 32, 32]`, means and log-variances `[n, 32]`."""
        features = self.encoder.upto("block4")(images)
        mean = self.encoder.after("block4")(features)
        log_variance = self.log_variance(features.flatten(1))
        code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return self.decoder(code), mean, log_variance


def loss(images: Tensor, drawn: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Squared error summed over the batch + beta x the batch's mean KL from the standard normal."""
    divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum(1)
    return ((images - drawn) ** 2).sum() + BETA * divergence.mean()


def train_vae(recipe: Recipe, backbone: Backbone, pictures: Pictures) -> dict[str, str]:
    """Train a beta-VAE whose encoder is `backbone`; its last epoch's loss an image, as a note."""
    rng = np.random.default_rng(recipe.seed)
    model = BetaVAE(backbone).train()
    optimiser = torch.optim.Adam(model.parameters(), recipe.learning_rate)
    drops = [round(share * recipe.epochs) for share in (0.5, 0.9)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, drops)
    everything = np.arange(len(pictures.pixels))
    mean_loss = 0.0
    for epoch in range(recipe.epochs):
        total = 0.0
        for rows in batches(rng.permutation(everything), recipe.batch):
            images = torch.from_numpy(pictures.shares(rows))
            images = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(3), images)
            step_loss = loss(images, *model(images))
            optimiser.zero_grad()
            step_loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += step_loss.item()
        schedule.step()
        mean_loss = total / len(everything)
        print(
            f"epoch {epoch + 1} of {recipe.epochs}: loss {mean_loss:.2f} an image", file=sys.stderr
        )
    return {"loss_per_image": f"{mean_loss:.3f}"}
