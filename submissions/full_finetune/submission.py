"""Full fine-tuning: every parameter of the network is trained from its pretrained value."""

from typing import Any

from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, fine_tune


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    **training: Any,
) -> nn.Module:
    backbone.requires_grad_(True)
    detector = Detector(backbone, backbone.target, pos[:1])
    fine_tune(detector, pos, neg, **training)
    return detector
