"""Multiplicative feature-based attention (thesis, Harvard 2017): a gain on every filter.

Filter k of every convolution is multiplied by a gain that is the same at every position:

    y_k = g_k (w_k * x + b_k),   g_k ≥ 0,   g_k = 1 at first
"""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import (
    Detector,
    Gains,
    fit_gauss_newton,
    fit_readout,
    insert_after_convolutions,
)


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor, steps: int, penalty: float) -> nn.Module:
    layers = insert_after_convolutions(
        backbone, pos[:1], lambda channels: Gains(torch.ones(channels))
    )
    detector = Detector(backbone, backbone.target, pos[:1])
    fit_readout(detector, pos, neg)
    fit_gauss_newton(
        detector.scorer,
        pos,
        neg,
        nonnegative=[layer.gains for layer in layers],
        steps=steps,
        penalty=penalty,
    )
    return detector
