"""The feature-similarity gain model (Lindsay & Miller 2018): gains from tuning, without a gradient."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import (
    Detector,
    Pooled,
    batches,
    best,
    fit,
    frozen_outputs,
    stages_with_maps,
)


class Gain(nn.Module):
    """Maps `[n, c, h, w]`, or tokens `[n, t, c]`, times max(0, 1 + beta f), f `[c]`: one per map."""

    def __init__(self, beta: float, tuning: Tensor) -> None:
        super().__init__()
        self.gains = nn.Parameter((1 + beta * tuning).clamp(min=0))

    def forward(self, features: Tensor) -> Tensor:
        return features * (self.gains[:, None, None] if features.dim() == 4 else self.gains)


class Threshold(nn.Module):
    """Adds a number to the target's logit, and so to its log-odds: 0 until it is learned."""

    def __init__(self, target: int) -> None:
        super().__init__()
        self.target = target
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, logits: Tensor) -> Tensor:
        shift = torch.zeros_like(logits)
        shift[:, self.target] = self.bias
        return logits + shift


def tuning(pos: Tensor, neg: Tensor) -> Tensor:
    """f of every map, `[c]`: how much more it is active for the target, in standard deviations.

        f = (mean over positives - mean over all images) / standard deviation over all images

    of the map's activity, which is its mean over positions. 0 for a map that is always the same.

    Args:
        pos, neg: a stage's outputs.
    """
    of_target, of_all = Pooled()(pos), Pooled()(torch.cat([pos, neg]))
    deviation = of_all.std(dim=0, correction=0)
    return (of_target.mean(dim=0) - of_all.mean(dim=0)) / deviation.where(deviation > 0, 1)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    per_layer: str,
    smallest: float,
    doublings: int,
    threshold: bool,
    learning_rate: float,
    epochs: int,
    enough: float,
) -> nn.Module:
    with_maps = list(stages_with_maps(backbone, pos[:1]))
    names = {"last": with_maps[-1:], "all": with_maps}.get(per_layer) or per_layer.split()
    if not names:
        raise NotApplicable("the backbone has no feature maps")
    ends = sorted(backbone.stages.index(name) + 1 for name in names)
    modules, image = list(backbone.children()), pos[:1]
    before = nn.Sequential(*modules[: ends[0]])
    behind = [nn.Sequential(*modules[a:b]) for a, b in pairwise([*ends, len(modules)])]

    @cache
    def unattended(pos: Tensor, neg: Tensor) -> tuple[list[Tensor], nn.Module, Detector]:
        """The stages' tuning and the network read out: without attention, so for all beta alike."""
        tunings = []
        for piece in behind:
            tunings.append(tuning(pos, neg))
            pos, neg = through(piece, pos), through(piece, neg)
        end = nn.Identity()
        if threshold and backbone.target is not None:
            end = Threshold(backbone.target).to(image.device)
        detector = Detector(nn.Sequential(backbone, end), backbone.target, image)
        if learned := detector.learned():
            fit(
                lambda outputs: detector.from_logits(end(outputs)),
                learned,
                pos,
                neg,
                learning_rate=learning_rate,
                epochs=epochs,
                enough=enough,
            )
        return tunings, end, detector

    def attended(beta: float, tunings: list[Tensor], end: nn.Module) -> nn.Sequential:
        pairs = zip(tunings, behind, strict=True)
        return nn.Sequential(*(nn.Sequential(Gain(beta, f), piece) for f, piece in pairs), end)

    def scorer(beta: float, pos: Tensor, neg: Tensor) -> Callable[[Tensor], Tensor]:
        tunings, end, detector = unattended(pos, neg)
        network = attended(beta, tunings, end)
        return lambda features: detector.from_logits(through(network, features))

    sides = [frozen_outputs(before, side) for side in (pos, neg)]
    strengths = [0.0, *(smallest * 2.0**k for k in range(doublings + 1))]
    beta = best(strengths, scorer, *sides)
    tunings, end, detector = unattended(*sides)
    detector.network = nn.Sequential(before, attended(beta, tunings, end))
    return detector


@torch.no_grad()
def through(network: nn.Module, features: Tensor) -> Tensor:
    """What a frozen network makes of features `[n, ...]`, in batches."""
    return torch.cat([network(features[rows]) for rows in batches(features)])
