"""Goal-directed attention (Luo, Roads & Love 2021): one gain per filter after a middle stage."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import (
    Detector,
    Gains,
    gauss_newton,
    middle_stage,
    stages_with_maps,
    width,
)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    after: str,
    intensity: float,
    steps: int,
    enough: float,
) -> nn.Module:
    shapes = stages_with_maps(backbone, pos[:1])
    after = after or middle_stage(backbone, shapes)
    attention = Gains(torch.ones(width(shapes[after]), device=pos.device))
    detector = Detector(
        nn.Sequential(attention, *backbone.after(after)),
        backbone.target,
        pos[:1],
        frozen=backbone.upto(after),
    )
    gauss_newton(
        detector.suffix,
        *detector.features(pos, neg),
        target_weight=intensity,
        nonnegative=[attention.gains],
        steps=steps,
        enough=enough,
    )
    return detector
