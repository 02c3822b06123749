"""Feature-similarity gain model (Lindsay & Miller 2018): gains from tuning, without gradients.

Feature map k of a stage is multiplied by a gain that grows with its tuning f_k to the target:

    gain_k = max(0, 1 + β f_k)

β is chosen by sensitivity on merged and array images, which are made from held-out adaptation images.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import (
    Detector,
    Gains,
    GlobalAveragePool,
    fit_lbfgs,
    fit_readout,
    frozen_features,
    separation,
    stages_with_maps,
    validation_split,
)
from attnbench.adaptation.composites import arrays, merged


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
    composites: int,
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

    def without_attention(pos: Tensor, neg: Tensor) -> tuple[list[Tensor], Detector]:
        """Return the tuning for each section, and a detector with a trained read-out."""
        tunings = []
        for section in sections:
            tunings.append(tuning(pos, neg))
            pos, neg = frozen_features(section, pos), frozen_features(section, neg)
        detector = Detector(nn.Identity(), backbone.target, image, frozen=backbone)
        if backbone.target is None:
            fit_readout(detector, pos, neg, steps=steps)
        return tunings, detector

    def attend(beta: float, tunings: list[Tensor]) -> nn.Sequential:
        parts = zip(tunings, sections, strict=True)
        return nn.Sequential(*(nn.Sequential(gains(beta, f), section) for f, section in parts))

    def sensitivity(beta: float) -> float:
        scorer = nn.Sequential(attend(beta, tunings), detector.scorer)
        scores = [[frozen_features(scorer, rows) for rows in test] for test in tests]
        return sum(separation(pos, neg).item() for pos, neg in scores)

    features = frozen_features(frozen, pos), frozen_features(frozen, neg)
    (pos_train, _), (neg_train, _) = map(validation_split, features)
    (_, pos_held_out), (_, neg_held_out) = map(validation_split, (pos, neg))
    tests = [
        [frozen_features(frozen, images) for images in make(pos_held_out, neg_held_out, composites)]
        for make in (merged, arrays)
    ]
    tunings, detector = without_attention(pos_train, neg_train)
    # The first of equally good strengths, which is the weakest.
    beta = max([0.0, *(smallest * 2.0**k for k in range(doublings + 1))], key=sensitivity)
    tunings, detector = without_attention(*features)
    detector.frozen = nn.Sequential(frozen, attend(beta, tunings))
    for name, parameter in detector.scorer.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    attended = (frozen_features(attend(beta, tunings), rows) for rows in features)
    fit_lbfgs(detector.scorer, *attended, steps=steps)
    return detector
