"""Spatial attention in a second pass (the 2016 noisy-MNIST model): look where evidence is."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, solve_penalised, split_head, stages_with_maps


class SecondPass(nn.Module):
    """Runs a stage twice: where it finds evidence, its input is stronger the second time.

    The class activations of a place are what the rest of the network would say if all places were like
    this one. As the model's post has it, attention goes to all places that are predictive of any class:
    gain = mean over classes of relu(class activation), divided by its mean over places.

    Args:
        stage: convolutions, maybe with a max-pool behind them.
        rest: maps of the stage to the backbone's outputs.
        size: of the maps that `rest` takes. Where it pools over all places, 1 x 1 will do.
    """

    def __init__(self, stage: nn.Sequential, rest: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        pools = isinstance(stage[-1], nn.MaxPool2d)
        self.convolutions, self.pool = (stage[:-1], stage[-1]) if pools else (stage, nn.Identity())
        self.rest, self.size = rest, size

    def gains(self, features: Tensor) -> Tensor:
        """For each place of the stage's input `[n, c, h, w]`: `[n, 1, h, w]`, 1 in the mean."""
        maps = self.convolutions(features)
        places = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1], 1, 1)
        activations = self.rest(places.expand(-1, -1, *self.size))
        evidence = activations.relu().mean(dim=1).view(-1, 1, *maps.shape[2:])
        # Convolutions with a stride have fewer places than their input.
        gains = interpolate(evidence, features.shape[2:], mode="bilinear")
        return gains / gains.mean(dim=(2, 3), keepdim=True).clamp_min(1e-9)

    def forward(self, features: Tensor) -> Tensor:
        return self.pool(self.convolutions(features * self.gains(features)))


@torch.no_grad()
def size_for(rest: nn.Module, maps: Tensor) -> tuple[int, int]:
    """Height and width of the smallest maps of equal places that `rest` takes."""
    try:
        rest(maps[:, :, :1, :1])
        return 1, 1
    except RuntimeError:  # it has a weight for each place
        return maps.shape[2], maps.shape[3]


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor, steps: int) -> nn.Module:
    maps = [name for name, s in stages_with_maps(backbone, pos[:1]).items() if len(s) == 3]
    if len(maps) < 2:
        raise NotApplicable("the backbone has no two stages with maps")
    before, stage, rest = (
        backbone.upto(maps[-2]),
        backbone.stage(maps[-1]),
        backbone.after(maps[-1]),
    )
    # A copy of the head to be trained, as the first pass goes on with the head as it is.
    head = rest[-1] if backbone.target is None else copy.deepcopy(rest[-1])
    second = SecondPass(stage, rest, size_for(rest, backbone.upto(maps[-1])(pos[:1])))
    network = nn.Sequential(before, second, *rest[:-1], head)
    frozen, head = split_head(network, backbone.target)
    detector = Detector(head, backbone.target, pos[:1], frozen=frozen)
    solve_penalised(detector.suffix, *detector.features(pos, neg), steps=steps)
    return detector
