"""FiLM (Perez et al. 2018): a scale and a shift per channel after every convolution.

y_k = s_k x_k + t_k,   s_k = 1 and t_k = 0 at first
"""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import (
    Detector,
    broadcast_channels,
    fit_gauss_newton,
    fit_readout,
    insert_after_convolutions,
)


class Film(nn.Module):
    """Map features x to scale x + shift, with a scale and a shift per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        scale = broadcast_channels(self.scale, features)
        shift = broadcast_channels(self.shift, features)
        return features * scale + shift


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor, steps: int, penalty: float) -> nn.Module:
    insert_after_convolutions(backbone, pos[:1], Film)
    detector = Detector(backbone, backbone.target, pos[:1])
    fit_readout(detector, pos, neg)
    fit_gauss_newton(detector.scorer, pos, neg, steps=steps, penalty=penalty)
    return detector
