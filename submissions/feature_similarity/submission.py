"""Feature-similarity gain model (Lindsay & Miller 2018): gains from tuning, without gradients.

Feature map k of a stage is multiplied by a gain that grows with its tuning f_k to the target:

    gain_k = max(0, 1 + β f_k)

β is chosen on held-out adaptation images.
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import (
    Detector,
    Gains,
    GlobalAveragePool,
    fit_readout,
    frozen_features,
    select_by_validation,
    stages_with_maps,
)


def tuning(pos: Tensor, neg: Tensor) -> Tensor:
    """Return the tuning f `[c]` of every map to the target, in standard deviations.

        f = (mean over positives - mean over all images) / standard deviation over all images

    of the map's activity, which is its mean over positions. It is 0 for a map with constant
    activity.

    Args:
        pos, neg: a stage's outputs for the positives and for the negatives.
    """
    pool = GlobalAveragePool()
    pos_activity, activity = pool(pos), pool(torch.cat([pos, neg]))
    deviation = activity.std(dim=0, correction=0)
    return (pos_activity.mean(dim=0) - activity.mean(dim=0)) / deviation.where(deviation > 0, 1)


def gains(beta: float, f: Tensor) -> Gains:
    """Return the gains max(0, 1 + beta f) for tuning values f `[c]`."""
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
    frozen = nn.Sequential(*modules[: ends[0]])
    # The rest of the network, cut in front of each place where gains are inserted.
    sections = [nn.Sequential(*modules[a:b]) for a, b in pairwise([*ends, len(modules)])]

    @cache
    def without_attention(pos: Tensor, neg: Tensor) -> tuple[list[Tensor], Detector]:
        """Return the tuning for each section and the read-out, which are the same for every β."""
        tunings = []
        for section in sections:
            tunings.append(tuning(pos, neg))
            pos, neg = frozen_features(section, pos), frozen_features(section, neg)
        detector = Detector(
            nn.Identity(), backbone.target, image, frozen=backbone, threshold=threshold
        )
        if threshold or backbone.target is None:
            fit_readout(detector, pos, neg, steps=steps)
        return tunings, detector

    def with_gains(beta: float, tunings: list[Tensor]) -> nn.Sequential:
        pairs = zip(tunings, sections, strict=True)
        return nn.Sequential(*(nn.Sequential(gains(beta, f), section) for f, section in pairs))

    def fit(beta: float, pos: Tensor, neg: Tensor) -> Callable[[Tensor], Tensor]:
        tunings, detector = without_attention(pos, neg)
        network = with_gains(beta, tunings)
        return lambda features: detector.scorer(frozen_features(network, features))

    features = frozen_features(frozen, pos), frozen_features(frozen, neg)
    strengths = [0.0, *(smallest * 2.0**k for k in range(doublings + 1))]
    beta = select_by_validation(strengths, fit, *features)
    tunings, detector = without_attention(*features)
    detector.frozen = nn.Sequential(frozen, with_gains(beta, tunings))
    return detector
