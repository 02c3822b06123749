"""The control of `glimpse_saccade`: 30 % of an image's patches are visible, chosen at random."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from attnbench import Backbone
from attnbench.adaptation import Detector, fit_lbfgs_cv, split_trainable_head


class RandomGlimpses(nn.Module):
    """Keep `kept` of `grid` x `grid` patches of each image `[n, 3, h, w]` and blank the others.

    Blanked pixels are zero, which is the mean colour. The patches are drawn for each image from a
    generator seeded with `seed` and the image's bits, so an image always shows the same patches.
    """

    def __init__(self, grid: int, kept: int, seed: int) -> None:
        super().__init__()
        self.grid = grid
        self.kept = kept
        self.seed = seed

    def choose(self, images: Tensor) -> Tensor:
        """Return the indices of the patches to keep, `[n, kept]`."""
        # A sum of integers is the same in any order, so it does not depend on the device.
        sums = images.contiguous().view(torch.int32).sum(dim=(1, 2, 3)).tolist()
        generators = [torch.Generator().manual_seed((self.seed + bits) % 2**63) for bits in sums]
        orders = [torch.randperm(self.grid**2, generator=generator) for generator in generators]
        return torch.stack(orders)[:, : self.kept].to(images.device)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        mask = images.new_zeros(len(images), self.grid**2).scatter_(1, self.choose(images), 1)
        patches = mask.view(-1, 1, self.grid, self.grid)
        return images * interpolate(patches, images.shape[2:])


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    grid: int,
    kept_fraction: float,
    seed: int,
    steps: int,
) -> nn.Module:
    # All patches have the same size: 8 x 8 of them for 48 or 224 pixels, 7 x 7 for 28.
    grid = next((side for side in range(grid, 4, -1) if pos.shape[2] % side == 0), grid)
    glimpses = RandomGlimpses(grid, kept=int(kept_fraction * grid**2), seed=seed)
    frozen, head = split_trainable_head(nn.Sequential(glimpses, *backbone), backbone.target)
    detector = Detector(head, backbone.target, pos[:1], frozen=frozen, threshold=False)
    fit_lbfgs_cv(detector.scorer, *detector.frozen_features(pos, neg), steps=steps)
    return detector
