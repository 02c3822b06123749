"""FiLM (Perez et al. 2018): a scale and a shift for every channel behind every convolution."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, behind_filters, gauss_newton, per_channel


class Film(nn.Module):
    """scale x + shift, per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        return features * per_channel(self.scale, features) + per_channel(self.shift, features)


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor, steps: int, enough: float) -> nn.Module:
    behind_filters(backbone, pos[:1], Film)
    detector = Detector(backbone, backbone.target, pos[:1])
    gauss_newton(detector.suffix, pos, neg, steps=steps, enough=enough)
    return detector
