"""Squeeze-and-excitation (Hu, Shen & Sun 2018) after a middle stage: gains computed from the image.

y_k = x_k 2 sigmoid(W₂ relu(W₁ z))_k,   z = mean of x over positions
"""

from typing import Any

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import (
    Detector,
    GlobalAveragePool,
    broadcast_channels,
    fine_tune,
    middle_stage,
    num_channels,
    stages_with_maps,
)


class SqueezeExcite(nn.Module):
    """Multiply each channel of maps `[n, k, h, w]` or tokens `[n, t, k]` by a gain.

    W₂ starts at zero, so that all gains start at one.

    Args:
        channels: k.
        reduction: k over the number of channels in the bottleneck.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        bottleneck = max(1, channels // reduction)
        self.pool = GlobalAveragePool()
        self.squeeze = nn.Linear(channels, bottleneck, bias=False)
        self.excite = nn.Linear(bottleneck, channels, bias=False)
        nn.init.zeros_(self.excite.weight)

    def forward(self, features: Tensor) -> Tensor:
        z = self.squeeze(self.pool(features)).relu()
        gains = 2 * torch.sigmoid(self.excite(z))
        return features * broadcast_channels(gains, features)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    after: str,
    reduction: int,
    **training: Any,
) -> nn.Module:
    shapes = stages_with_maps(backbone, pos[:1])
    after = after or middle_stage(backbone, shapes)
    block = SqueezeExcite(num_channels(shapes[after]), reduction).to(pos.device)
    network = nn.Sequential(block, *backbone.after(after))
    detector = Detector(network, backbone.target, pos[:1], frozen=backbone.upto(after))
    fine_tune(detector, pos, neg, **training)
    return detector
