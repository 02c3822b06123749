"""Everything trained: the whole network, from its own weights."""

from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, fit


def adapt(
    backbone: Backbone, pos: Tensor, neg: Tensor, learning_rate: float, epochs: int, enough: float
) -> nn.Module:
    backbone.requires_grad_(True)
    detector = Detector(backbone, backbone.target, pos[:1])
    fit(detector, pos, neg, learning_rate=learning_rate, epochs=epochs, enough=enough)
    return detector
