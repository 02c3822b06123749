"""A spatial transformer (Jaderberg et al. 2015) in front of the frozen backbone."""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, affine_grid, grid_sample

from attnbench import Backbone
from attnbench.adaptation import Detector, fit, frozen_outputs

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


class Shift(nn.Module):
    """Adds a number to the target's logit, and so to its log-odds: a window cannot set a threshold."""

    def __init__(self, target: int) -> None:
        super().__init__()
        self.target = target
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, logits: Tensor) -> Tensor:
        logits = logits.clone()
        logits[:, self.target] += self.bias
        return logits


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    learning_rate: float,
    epochs: int,
    threshold_learning_rate: float,
    threshold_epochs: int,
    enough: float,
) -> nn.Module:
    shift = nn.Identity() if backbone.target is None else Shift(backbone.target)
    network = nn.Sequential(backbone, shift.to(pos.device))
    detector = Detector(network, backbone.target, pos[:1])
    # What stands behind the backbone comes first: its outputs are the same until there is a window.
    fit(
        lambda outputs: detector.from_logits(shift(outputs)),
        detector.learned(),
        *(frozen_outputs(backbone, side) for side in (pos, neg)),
        learning_rate=threshold_learning_rate,
        epochs=threshold_epochs,
        enough=enough,
    )
    network.insert(0, SpatialTransformer().to(pos.device))
    fit(
        detector,
        detector.learned(),
        pos,
        neg,
        learning_rate=learning_rate,
        epochs=epochs,
        enough=enough,
    )
    return detector
