"""The feature-similarity gain model (Lindsay & Miller 2018): gains from tuning, without a gradient."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import (
    Detector,
    Gains,
    Pooled,
    Shift,
    best,
    frozen_outputs,
    quick_outputs,
    solve_penalised,
    stages_with_maps,
)


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


def gains(beta: float, f: Tensor) -> Gains:
    """One gain per map, max(0, 1 + beta f)."""
    return Gains((1 + beta * f).clamp(min=0))


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    per_layer: str,
    smallest: float,
    doublings: int,
    threshold: bool,
    steps: int,
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
    def unattended(pos: Tensor, neg: Tensor) -> tuple[list[Tensor], Detector]:
        """The stages' tuning and what reads the network: without attention, so for all beta alike."""
        tunings = []
        for piece in behind:
            tunings.append(tuning(pos, neg))
            pos, neg = frozen_outputs(piece, pos), frozen_outputs(piece, neg)
        shifted = threshold and backbone.target is not None
        end = Shift(backbone.target).to(image.device) if shifted else nn.Identity()
        detector = Detector(end, backbone.target, image, frozen=backbone)
        if shifted or backbone.target is None:
            solve_penalised(detector.suffix, pos, neg, steps=steps)
        return tunings, detector

    def attended(beta: float, tunings: list[Tensor]) -> nn.Sequential:
        pairs = zip(tunings, behind, strict=True)
        return nn.Sequential(*(nn.Sequential(gains(beta, f), piece) for f, piece in pairs))

    def scorer(beta: float, pos: Tensor, neg: Tensor) -> Callable[[Tensor], Tensor]:
        tunings, detector = unattended(pos, neg)
        network = attended(beta, tunings)
        return lambda features: detector.suffix(frozen_outputs(network, features))

    sides = quick_outputs(before, pos), quick_outputs(before, neg)
    strengths = [0.0, *(smallest * 2.0**k for k in range(doublings + 1))]
    beta = best(strengths, scorer, *sides)
    tunings, detector = unattended(*sides)
    detector.frozen = nn.Sequential(before, attended(beta, tunings))
    return detector
