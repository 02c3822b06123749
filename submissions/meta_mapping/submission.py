"""Meta-mapping (Lampinen & McClelland 2020): gains predicted from a class's prototype.

Classes that the network knows teach how a prototype becomes gains. To that map the target is new: its
own prototype gives its gains at once, and no image of it is looked at.
"""

import torch
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import (
    Detector,
    Gains,
    frozen_outputs,
    gauss_newton,
    log_odds,
    quick_outputs,
)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    references: int,
    images: int,
    steps: int,
    enough: float,
) -> nn.Module:
    target = backbone.target
    if target is None:
        raise NotApplicable("the backbone has no outputs that could be reference classes")
    before, head = backbone.upto(backbone.stages[-2]), backbone.stage(backbone.stages[-1])
    prototypes = prototypes_of(head)
    features = quick_outputs(before, neg)
    logits = frozen_outputs(head, features)
    learned, few = {}, min(images, len(features) // 2)
    for known in most_named(logits, target)[:references]:
        # The network's order is good where its threshold is not: its first few pass for the class's.
        order = log_odds(logits, known).argsort(descending=True)
        gains = Gains(torch.ones_like(prototypes[known]))
        gauss_newton(
            Detector(nn.Sequential(gains, head), known, neg[:1]),
            features[order[:few]],
            features[order[few:]],
            nonnegative=[gains.gains],
            steps=steps,
            enough=enough,
        )
        learned[known] = gains.gains.detach()
    slope, level = line_through(prototypes[list(learned)], torch.stack([*learned.values()]))
    gains = Gains((level + slope * prototypes[target]).clamp(min=0))
    return Detector(nn.Sequential(gains, head), target, pos[:1], frozen=before)


def prototypes_of(head: nn.Module) -> Tensor:
    """A prototype of each class `[classes, k]`: its row of the head's weights.

    Less the mean row, as only what classes differ in tells them apart; in units of the rows' spread.
    """
    *_, weights = (each for each in head.parameters() if each.dim() > 1)
    rows = weights.detach().flatten(1)
    return (rows - rows.mean(dim=0)) / rows.std()


def most_named(logits: Tensor, target: int) -> list[int]:
    """The classes that images are named by, the most frequent first; never the target.

    Args:
        logits: `[n, classes]`.
        target: index of the class left out.
    """
    others = logits.clone()
    others[:, target] = -torch.inf
    named, count = others.argmax(dim=1).unique(return_counts=True)
    return named[count.argsort(descending=True, stable=True)].tolist()


def line_through(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and level of the least-squares line y = level + slope x through all points."""
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return slope, y.mean() - slope * x.mean()
