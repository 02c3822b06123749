"""One number added to the target's log-odds: the control that can only move the criterion."""

import torch
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, frozen_outputs, log_odds


class Shift(nn.Module):
    """Adds `bias` to the target's logit, and so to its log-odds."""

    def __init__(self, target: int, bias: Tensor) -> None:
        super().__init__()
        self.target = target
        self.bias = nn.Parameter(bias)

    def forward(self, logits: Tensor) -> Tensor:
        logits[:, self.target] += self.bias
        return logits


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor, steps: int) -> nn.Module:
    target = backbone.target
    if target is None:
        raise NotApplicable("the backbone has no output for this target")
    present, absent = (log_odds(frozen_outputs(backbone, side), target) for side in (pos, neg))
    shift = Shift(target, balanced_bias(present, absent, steps))
    return Detector(nn.Sequential(backbone, shift), target, pos[:1])


def balanced_bias(present: Tensor, absent: Tensor, steps: int) -> Tensor:
    """The b that minimises mean softplus(-(s + b)) over positives + mean softplus(s + b) over
    negatives. Its slope rises with b, so bisection finds where it is zero."""
    scores = torch.cat([present, absent])
    low, high = -scores.max() - 10, -scores.min() + 10
    for _ in range(steps):
        middle = (low + high) / 2
        slope = torch.sigmoid(absent + middle).mean() - torch.sigmoid(-present - middle).mean()
        low, high = torch.where(slope < 0, middle, low), torch.where(slope < 0, high, middle)
    return (low + high) / 2
