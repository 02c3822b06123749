"""Squeeze-and-excitation (Hu, Shen & Sun 2018) after a middle stage: gains that each image sets."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import (
    Detector,
    Pooled,
    fit,
    middle_stage,
    per_channel,
    stages_with_maps,
    width,
)


class SqueezeExcite(nn.Module):
    """x_k · 2 sigmoid(W₂ relu(W₁ z))_k with z the mean of x over positions.

    For maps `[n, k, h, w]` or tokens `[n, t, k]`. W₂ starts at zero, so that all gains are one.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        narrow = max(1, channels // reduction)
        self.pool = Pooled()
        self.squeeze = nn.Linear(channels, narrow, bias=False)
        self.excite = nn.Linear(narrow, channels, bias=False)
        nn.init.zeros_(self.excite.weight)

    def forward(self, features: Tensor) -> Tensor:
        z = self.squeeze(self.pool(features)).relu()
        gains = 2 * torch.sigmoid(self.excite(z))
        return features * per_channel(gains, features)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    after: str,
    reduction: int,
    learning_rate: float,
    epochs: int,
    enough: float,
) -> nn.Module:
    shapes = stages_with_maps(backbone, pos[:1])
    after = after or middle_stage(backbone, shapes)
    block = SqueezeExcite(width(shapes[after]), reduction).to(pos.device)
    network = nn.Sequential(block, *backbone.after(after))
    detector = Detector(network, backbone.target, pos[:1], frozen=backbone.upto(after))
    fit(
        detector.suffix,
        *detector.features(pos, neg),
        learning_rate=learning_rate,
        epochs=epochs,
        enough=enough,
    )
    return detector
