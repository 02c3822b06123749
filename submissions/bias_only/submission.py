"""One number added to the target's log-odds: the control that can only move the criterion."""

from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, Shift, solve


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor, steps: int) -> nn.Module:
    target = backbone.target
    if target is None:
        raise NotApplicable("the backbone has no output for this target")
    shift = Shift(target).to(pos.device)
    detector = Detector(shift, target, pos[:1], frozen=backbone)
    solve(detector.suffix, *detector.features(pos, neg), steps=steps)
    return detector
