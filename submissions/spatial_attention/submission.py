"""Spatial attention in a second pass, as described in a post on noisy MNIST (Vatterott 2016).

The class-activation map (Zhou et al. 2016) of a first pass gives one gain per position. In a second
pass, the input of the last stage with maps is multiplied by these gains:

    gain(position) = mean over classes of relu(class activation), divided by its mean over positions
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import (
    Detector,
    fit_lbfgs_cv,
    split_trainable_head,
    stages_with_maps,
)


class SecondPass(nn.Module):
    """Run a stage twice, with a stronger input the second time where the first pass found evidence.

    The class activations of a position are the network's outputs for maps that equal this position
    everywhere. Attention goes to positions that are predictive of any class.

    Args:
        stage: convolutions, optionally followed by a max-pool.
        rest: the stages after it, from its maps to the backbone's outputs.
        size: of the maps for `rest`. 1 x 1 suffices if it pools over all positions.
    """

    def __init__(self, stage: nn.Sequential, rest: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        has_pool = isinstance(stage[-1], nn.MaxPool2d)
        self.convolutions = stage[:-1] if has_pool else stage
        self.pool = stage[-1] if has_pool else nn.Identity()
        self.rest, self.size = rest, size

    def gains(self, features: Tensor) -> Tensor:
        """Return gains `[n, 1, h, w]` with mean 1 for the stage's input `[n, c, h, w]`."""
        maps = self.convolutions(features)
        positions = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1], 1, 1)
        activations = self.rest(positions.expand(-1, -1, *self.size))
        evidence = activations.relu().mean(dim=1).view(-1, 1, *maps.shape[2:])
        # After convolutions with a stride, the maps are smaller than the input.
        gains = interpolate(evidence, features.shape[2:], mode="bilinear")
        return gains / gains.mean(dim=(2, 3), keepdim=True).clamp_min(1e-9)

    def forward(self, features: Tensor) -> Tensor:
        return self.pool(self.convolutions(features * self.gains(features)))


@torch.no_grad()
def smallest_size(rest: nn.Module, maps: Tensor) -> tuple[int, int]:
    """Return height and width of the smallest uniform maps that `rest` accepts."""
    try:
        rest(maps[:, :, :1, :1])
        return 1, 1
    except RuntimeError:  # `rest` has separate weights for each position
        return maps.shape[2], maps.shape[3]


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor, steps: int) -> nn.Module:
    shapes = stages_with_maps(backbone, pos[:1])
    names = [name for name, shape in shapes.items() if len(shape) == 3]
    if len(names) < 2:
        raise NotApplicable("the backbone has fewer than two stages with maps")
    before, stage = backbone.upto(names[-2]), backbone.stage(names[-1])
    rest = backbone.after(names[-1])
    # A copy of the head is trained. The first pass keeps the pretrained one.
    head = rest[-1] if backbone.target is None else copy.deepcopy(rest[-1])
    size = smallest_size(rest, backbone.upto(names[-1])(pos[:1]))
    network = nn.Sequential(before, SecondPass(stage, rest, size), *rest[:-1], head)
    frozen, head = split_trainable_head(network, backbone.target)
    detector = Detector(head, backbone.target, pos[:1], frozen=frozen, threshold=False)
    fit_lbfgs_cv(detector.scorer, *detector.frozen_features(pos, neg), steps=steps)
    return detector
