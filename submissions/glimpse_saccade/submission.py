"""Saccades (after Farkya et al. 2022): only the patches that attention selects are visible.

A first pass through the lower half of the network selects the 30 % of the patches in which its
feature maps are most active (Zagoruyko & Komodakis 2017). The last layer is trained on what is
visible.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from attnbench import Backbone
from attnbench.adaptation import (
    Detector,
    channels_last,
    fit_lbfgs_cv,
    middle_stage,
    split_trainable_head,
    stages_with_maps,
)


class Saccades(nn.Module):
    """Keep `kept` of `grid` x `grid` patches of each image `[n, 3, h, w]` and blank the others.

    Blanked pixels are zero, which is the mean colour. Attention to a position is the sum over
    channels of the squared maps `[n, c, h', w']`, or tokens `[n, 1 + h' w', c]`.

    Args:
        first_pass: images to maps or tokens.
    """

    def __init__(self, first_pass: nn.Module, grid: int, kept: int) -> None:
        super().__init__()
        self.first_pass = first_pass
        self.grid = grid
        self.kept = kept

    def attention(self, images: Tensor) -> Tensor:
        """Return the attention to each patch, `[n, grid, grid]`."""
        # One image at a time, because rounding depends on the size of a batch. A tiny difference
        # can decide which patch is the last to be kept.
        maps = torch.cat([self.first_pass(channels_last(image)) for image in images.split(1)])
        if maps.dim() == 3:
            maps = maps[:, 1:].transpose(1, 2)  # the class token has no position
            side = round(maps.shape[2] ** 0.5)
            maps = maps.unflatten(2, (side, side))
        activity = maps.square().sum(dim=1, keepdim=True)
        size = (self.grid, self.grid)
        return interpolate(activity, size, mode="bilinear", antialias=True).squeeze(1)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        attention = self.attention(images).flatten(1)
        chosen = attention.topk(self.kept).indices
        mask = torch.zeros_like(attention).scatter_(1, chosen, 1)
        patches = mask.view(-1, 1, self.grid, self.grid)
        return images * interpolate(patches, images.shape[2:])


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    grid: int,
    kept_fraction: float,
    steps: int,
) -> nn.Module:
    first_pass = backbone.upto(middle_stage(backbone, stages_with_maps(backbone, pos[:1])))
    # All patches have the same size: 8 x 8 of them for 48 or 224 pixels, 7 x 7 for 28.
    grid = next((side for side in range(grid, 4, -1) if pos.shape[2] % side == 0), grid)
    saccades = Saccades(first_pass, grid, kept=int(kept_fraction * grid**2))
    frozen, head = split_trainable_head(nn.Sequential(saccades, *backbone), backbone.target)
    detector = Detector(head, backbone.target, pos[:1], frozen=frozen, threshold=False)
    fit_lbfgs_cv(detector.scorer, *detector.frozen_features(pos, neg), steps=steps)
    return detector
