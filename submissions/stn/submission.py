"""A spatial transformer (Jaderberg et al. 2015) in front of the frozen backbone."""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, affine_grid, grid_sample

from attnbench import Backbone
from attnbench.adaptation import Detector, Shift, fit, solve_penalised

SIDE = 28  # in pixels, of what the localisation network sees of an image


class SpatialTransformer(nn.Module):
    """Shows an image `[n, 3, h, w]` through an affine window, which a small network chooses.

    output(x, y) = image(A (x, y, 1)) with places from -1 to 1, bilinear between pixels, and zero (the
    mean colour) outside. A is `[n, 2, 3]`; it is the identity at the start.
    """

    def __init__(self) -> None:
        super().__init__()
        self.localise = nn.Sequential(
            *(nn.Conv2d(3, 8, 7), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Conv2d(8, 10, 5), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(10 * 3 * 3, 32), nn.ReLU()),
        )
        self.affine = nn.Linear(32, 6)
        nn.init.zeros_(self.affine.weight)
        self.affine.bias.data = torch.eye(2, 3).flatten()

    def windows(self, images: Tensor) -> Tensor:
        """A of each image, `[n, 2, 3]`."""
        return self.affine(self.localise(adaptive_avg_pool2d(images, SIDE))).view(-1, 2, 3)

    def forward(self, images: Tensor) -> Tensor:
        grid = affine_grid(self.windows(images), list(images.shape), align_corners=False)
        return grid_sample(images, grid, align_corners=False)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    learning_rate: float,
    epochs: int,
    threshold_steps: int,
    enough: float,
) -> nn.Module:
    # A window cannot set a threshold. What does comes first: behind the backbone, whose outputs are
    # the same until there is a window.
    target, image = backbone.target, pos[:1]
    threshold = nn.Identity() if target is None else Shift(target).to(pos.device)
    plain = Detector(threshold, target, image, frozen=backbone)
    solve_penalised(plain.suffix, *plain.features(pos, neg), steps=threshold_steps)
    window = SpatialTransformer().to(pos.device)
    detector = Detector(nn.Sequential(window, backbone, threshold), target, image)
    detector.read = plain.read
    fit(detector, pos, neg, learning_rate=learning_rate, epochs=epochs, enough=enough)
    return detector
