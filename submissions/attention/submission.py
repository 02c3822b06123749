"""Goal-directed attention (Luo, Roads & Love 2021): one gain per channel after a middle stage.

Channel k of the stage's output is multiplied by a learned gain that is the same at every position:

    y_k = g_k x_k,   g_k ≥ 0,   g_k = 1 at first
"""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import (
    Detector,
    Gains,
    Precision,
    fit_gauss_newton,
    fit_readout,
    middle_stage,
    num_channels,
    stages_with_maps,
)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    after: str,
    intensity: float,
    steps: int,
    penalty: float,
    precision: Precision,
) -> nn.Module:
    shapes = stages_with_maps(backbone, pos[:1])
    after = after or middle_stage(backbone, shapes)
    attention = Gains(torch.ones(num_channels(shapes[after]), device=pos.device))
    detector = Detector(
        nn.Sequential(attention, *backbone.after(after)),
        backbone.target,
        pos[:1],
        frozen=backbone.upto(after),
    )
    features = detector.frozen_features(pos, neg, precision=precision)
    fit_readout(detector, *features)
    fit_gauss_newton(
        detector.scorer,
        *features,
        target_weight=intensity,
        nonnegative=[attention.gains],
        steps=steps,
        penalty=penalty,
    )
    return detector
