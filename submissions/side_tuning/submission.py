"""Side-tuning (Zhang et al. 2020): a small network beside the frozen one, blended with it."""

import math

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, Pooled, channels_last, fit, frozen_outputs


class Both(nn.Module):
    """An image `[n, 3, h, w]` and what a frozen network makes of it, `[n, ...]`, in one row."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images.flatten(1), self.base(images).flatten(1)], dim=1)


class SideTuned(nn.Module):
    """a base(image) + (1 - a) side(image) with a = sigmoid(share) learned, read by the backbone's head.

    Takes rows of `Both`.

    Args:
        head: what follows.
        image: `[1, 3, h, w]`.
        features: what the base makes of it: `[1, d]`, or maps `[1, d, h, w]`.
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
            Pooled(),
            nn.Linear(4 * width, features.shape[1]),
        )
        # The side adds nothing at first, and the base has most of the say: sigmoid(2) = 0.88.
        nn.init.zeros_(self.side[-1].weight)
        nn.init.zeros_(self.side[-1].bias)
        self.share = nn.Parameter(torch.tensor(2.0))

    def forward(self, rows: Tensor) -> Tensor:
        parts = rows.split([math.prod(shape) for shape in self.shapes], dim=1)
        images, base = (
            part.unflatten(1, shape) for part, shape in zip(parts, self.shapes, strict=True)
        )
        side = self.side(channels_last(images))
        side = side.reshape(*side.shape, *[1] * (base.dim() - 2))  # the same at every place of maps
        share = torch.sigmoid(self.share)
        return self.head(share * base + (1 - share) * side)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    width: int,
    learning_rate: float,
    epochs: int,
    enough: float,
) -> nn.Module:
    base, head = backbone, nn.Identity()
    if backbone.target is not None:
        base, head = backbone.upto(backbone.stages[-2]), backbone.stage(backbone.stages[-1])
    network = SideTuned(head, pos[:1], frozen_outputs(base, pos[:1]), width).to(pos.device)
    detector = Detector(network, backbone.target, pos[:1], frozen=Both(base))
    # In full precision: the images go to the side network as they are.
    features = (frozen_outputs(detector.frozen, side) for side in (pos, neg))
    fit(detector.suffix, *features, learning_rate=learning_rate, epochs=epochs, enough=enough)
    return detector
