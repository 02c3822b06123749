"""The last layer retrained from its pretrained weights, all else frozen."""

from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, solve_penalised, split_head


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor, steps: int) -> nn.Module:
    frozen, head = split_head(backbone, backbone.target)
    detector = Detector(head, backbone.target, pos[:1], frozen=frozen)
    solve_penalised(detector.suffix, *detector.features(pos, neg), steps=steps)
    return detector
