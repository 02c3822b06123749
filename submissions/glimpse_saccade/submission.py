"""Saccades (after Farkya et al. 2022): only the patches that attention chooses are seen."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from attnbench import Backbone
from attnbench.adaptation import (
    Detector,
    channels_last,
    frozen_outputs,
    middle_stage,
    solve_penalised,
    split_head,
    stages_with_maps,
)


class Saccades(nn.Module):
    """Keeps `kept` of `grid` x `grid` patches of an image `[n, 3, h, w]`, and blanks the others.

    Blank is zero, the mean colour. Attention goes where the network is most active at a first glance:
    the sum of squares over the channels of maps `[n, c, h', w']`, or of tokens `[n, 1 + h' w', c]`.

    Args:
        glance: images to maps or tokens.
    """

    def __init__(self, glance: nn.Module, grid: int, kept: int) -> None:
        super().__init__()
        self.glance = glance
        self.grid = grid
        self.kept = kept

    def attention(self, images: Tensor) -> Tensor:
        """How much each patch draws the eye, `[n, grid, grid]`."""
        # One by one: rounding depends on how many images go together, and a hair's breadth decides
        # which patch is the last to be seen.
        maps = torch.cat([self.glance(channels_last(image)) for image in images.split(1)])
        if maps.dim() == 3:
            maps = maps[:, 1:].transpose(1, 2)  # the class token is nowhere
            side = round(maps.shape[2] ** 0.5)
            maps = maps.unflatten(2, (side, side))
        activity = maps.square().sum(dim=1, keepdim=True)
        size = (self.grid, self.grid)
        return interpolate(activity, size, mode="bilinear", antialias=True).squeeze(1)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        drawn = self.attention(images).flatten(1)
        seen = torch.zeros_like(drawn).scatter_(1, drawn.topk(self.kept).indices, 1)
        patches = seen.view(-1, 1, self.grid, self.grid)
        return images * interpolate(patches, images.shape[2:])


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    grid: int,
    share: float,
    steps: int,
) -> nn.Module:
    glance = backbone.upto(middle_stage(backbone, stages_with_maps(backbone, pos[:1])))
    # Patches of one size: 8 x 8 of 48 or 224 pixels, 7 x 7 of 28.
    grid = next((each for each in range(grid, 4, -1) if pos.shape[2] % each == 0), grid)
    saccades = Saccades(glance, grid, kept=int(share * grid**2))
    frozen, head = split_head(nn.Sequential(saccades, *backbone), backbone.target)
    detector = Detector(head, backbone.target, pos[:1], frozen=frozen)
    # In full precision: a hair's breadth decides what is seen.
    features = (frozen_outputs(frozen, side) for side in (pos, neg))
    solve_penalised(detector.suffix, *features, steps=steps)
    return detector
