"""A spatial transformer (Jaderberg et al. 2015) in front of the frozen backbone.

A small network chooses an affine window A for each image:

    output(x, y) = image(A (x, y, 1))
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, affine_grid, grid_sample

from attnbench import Backbone
from attnbench.adaptation import Detector, fine_tune

LOCALISATION_SIZE = 28  # side in pixels of the image that the localisation network gets


class SpatialTransformer(nn.Module):
    """Resample images `[n, 3, h, w]` through an affine window that a small network chooses.

    x and y run from -1 to 1. Interpolation is bilinear, and outside the image pixels are zero,
    which is the mean colour. A is the identity at first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.localisation = nn.Sequential(
            *(nn.Conv2d(3, 8, 7), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Conv2d(8, 10, 5), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(10 * 3 * 3, 32), nn.ReLU()),
        )
        self.affine = nn.Linear(32, 6)
        nn.init.zeros_(self.affine.weight)
        self.affine.bias.data = torch.eye(2, 3).flatten()

    def windows(self, images: Tensor) -> Tensor:
        """Return A for each image, `[n, 2, 3]`."""
        small = adaptive_avg_pool2d(images, LOCALISATION_SIZE)
        return self.affine(self.localisation(small)).view(-1, 2, 3)

    def forward(self, images: Tensor) -> Tensor:
        grid = affine_grid(self.windows(images), list(images.shape), align_corners=False)
        return grid_sample(images, grid, align_corners=False)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    **training: Any,
) -> nn.Module:
    network = nn.Sequential(SpatialTransformer().to(pos.device), backbone)
    detector = Detector(network, backbone.target, pos[:1])
    fine_tune(detector, pos, neg, **training)
    return detector
