"""Side-tuning (Zhang et al. 2020): a small network beside the frozen one, blended with it."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, Pooled, channels_last, fit, frozen_outputs


class SideTuned(nn.Module):
    """a base(image) + (1 - a) side(image) with a = sigmoid(share) learned, read by the backbone's head.

    Args:
        base: the frozen network up to what the head reads: `[n, d]`, or maps `[n, d, h, w]`.
        head: what follows.
        features: how many d is.
        width: filters of the side network's first convolution.
    """

    def __init__(self, base: nn.Module, head: nn.Module, features: int, width: int) -> None:
        super().__init__()
        self.base = base
        self.head = head
        self.side = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            Pooled(),
            nn.Linear(4 * width, features),
        )
        # The side adds nothing at first, and the base has most of the say: sigmoid(2) = 0.88.
        nn.init.zeros_(self.side[-1].weight)
        nn.init.zeros_(self.side[-1].bias)
        self.share = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor) -> Tensor:
        return self.blend(self.base(images), images)

    def blend(self, base: Tensor, images: Tensor) -> Tensor:
        """The head's outputs from what the base makes of the images, and from the images."""
        side = self.side(images)
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
    # The base never changes: once per image is enough. An image and what the base makes of it are
    # one row.
    both = [(side, frozen_outputs(base, side)) for side in (pos, neg)]
    shapes = [part.shape[1:] for part in both[0]]
    rows = [torch.cat([part.flatten(1) for part in parts], dim=1) for parts in both]
    network = SideTuned(base, head, shapes[1][0], width).to(pos.device)
    detector = Detector(network, backbone.target, pos[:1])

    def score(rows: Tensor) -> Tensor:
        images, features = rows.split([shape.numel() for shape in shapes], dim=1)
        images = channels_last(images.unflatten(1, shapes[0]))
        return detector.from_logits(network.blend(features.unflatten(1, shapes[1]), images))

    fit(score, detector.learned(), *rows, learning_rate=learning_rate, epochs=epochs, enough=enough)
    return detector
