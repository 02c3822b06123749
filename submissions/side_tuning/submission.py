"""Side-tuning (Zhang et al. 2020): a small network alongside the frozen one, blended with it.

    R(x) = a B(x) + (1 - a) S(x),   a = sigmoid(blend)

with the frozen base B, the side network S and a learned scalar `blend`. The frozen head reads R.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import (
    Detector,
    GlobalAveragePool,
    channels_last,
    fine_tune,
    frozen_features,
)


class ImagesAndFeatures(nn.Module):
    """Map images `[n, 3, h, w]` to rows with the flattened image and its frozen features."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images.flatten(1), self.base(images).flatten(1)], dim=1)


class SideTuned(nn.Module):
    """Map rows of `ImagesAndFeatures` to the head's outputs for R.

    Args:
        head: reads R.
        image: `[1, 3, h, w]`.
        features: the base's features of the image, `[1, d]` or maps `[1, d, h, w]`.
        width: filters of the side network's first convolution.
    """

    def __init__(self, head: nn.Module, image: Tensor, features: Tensor, width: int) -> None:
        super().__init__()
        self.head = head
        self.shapes = [tuple(image.shape[1:]), tuple(features.shape[1:])]
        self.side = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            GlobalAveragePool(),
            nn.Linear(4 * width, features.shape[1]),
        )
        # The network starts close to the base: S is 0 and a is sigmoid(2) = 0.88.
        nn.init.zeros_(self.side[-1].weight)
        nn.init.zeros_(self.side[-1].bias)
        self.blend = nn.Parameter(torch.tensor(2.0))

    def forward(self, rows: Tensor) -> Tensor:
        parts = rows.split([math.prod(shape) for shape in self.shapes], dim=1)
        images, base = (
            part.unflatten(1, shape) for part, shape in zip(parts, self.shapes, strict=True)
        )
        side = self.side(channels_last(images))
        # If the head reads maps, S is the same at every position.
        side = side.reshape(*side.shape, *[1] * (base.dim() - 2))
        a = torch.sigmoid(self.blend)
        return self.head(a * base + (1 - a) * side)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    width: int,
    **training: Any,
) -> nn.Module:
    base, head = backbone, nn.Identity()
    if backbone.target is not None:
        base, head = backbone.upto(backbone.stages[-2]), backbone.stage(backbone.stages[-1])
    features = frozen_features(base, pos[:1])
    network = SideTuned(head, pos[:1], features, width).to(pos.device)
    detector = Detector(network, backbone.target, pos[:1], frozen=ImagesAndFeatures(base))
    fine_tune(detector, pos, neg, **training)
    return detector
