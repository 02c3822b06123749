"""The control of glimpse_saccade: only patches chosen at random are seen."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from attnbench import Backbone
from attnbench.adaptation import Detector, frozen_outputs, solve_penalised, split_head


class RandomGlimpses(nn.Module):
    """Keeps `kept` of `grid` x `grid` patches of an image `[n, 3, h, w]`, and blanks the others.

    Blank is zero, the mean colour. The patches are drawn for each image, by a generator with a seed
    made of `seed` and the image's bits: another look at the same image shows the same patches.
    """

    def __init__(self, grid: int, kept: int, seed: int) -> None:
        super().__init__()
        self.grid = grid
        self.kept = kept
        self.seed = seed

    def chosen(self, images: Tensor) -> Tensor:
        """The patches that are kept, by their index, `[n, kept]`."""
        # A sum of integers is the same in any order, on any device.
        sums = images.contiguous().view(torch.int32).sum(dim=(1, 2, 3)).tolist()
        generators = (torch.Generator().manual_seed((self.seed + each) % 2**63) for each in sums)
        orders = [torch.randperm(self.grid**2, generator=each)[: self.kept] for each in generators]
        return torch.stack(orders).to(images.device)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        seen = images.new_zeros(len(images), self.grid**2).scatter_(1, self.chosen(images), 1)
        patches = seen.view(-1, 1, self.grid, self.grid)
        return images * interpolate(patches, images.shape[2:])


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    grid: int,
    share: float,
    seed: int,
    steps: int,
) -> nn.Module:
    # Patches of one size: 8 x 8 of 48 or 224 pixels, 7 x 7 of 28.
    grid = next((each for each in range(grid, 4, -1) if pos.shape[2] % each == 0), grid)
    glimpses = RandomGlimpses(grid, kept=int(share * grid**2), seed=seed)
    frozen, head = split_head(nn.Sequential(glimpses, *backbone), backbone.target)
    detector = Detector(head, backbone.target, pos[:1], frozen=frozen)
    # In full precision: an image's bits decide what is seen.
    features = (frozen_outputs(frozen, side) for side in (pos, neg))
    solve_penalised(detector.suffix, *features, steps=steps)
    return detector
