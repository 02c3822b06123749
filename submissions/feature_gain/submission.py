"""Multiplicative feature-based attention (thesis, Harvard 2017): a gain on every filter."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, Gains, behind_filters, gauss_newton


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor, steps: int, enough: float) -> nn.Module:
    gains = behind_filters(backbone, pos[:1], lambda channels: Gains(torch.ones(channels)))
    detector = Detector(backbone, backbone.target, pos[:1])
    gauss_newton(
        detector.suffix,
        pos,
        neg,
        nonnegative=[each.gains for each in gains],
        steps=steps,
        enough=enough,
    )
    return detector
