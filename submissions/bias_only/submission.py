"""A control that can only move the criterion: one bias b on the target's log-odds.

score = logit of the target - logsumexp(other logits) + b
"""

from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, OutputBias, fit_lbfgs


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor, steps: int) -> nn.Module:
    target = backbone.target
    if target is None:
        raise NotApplicable("the backbone has no output for this target")
    bias = OutputBias(target).to(pos.device)
    detector = Detector(bias, target, pos[:1], frozen=backbone)
    fit_lbfgs(detector.scorer, *detector.frozen_features(pos, neg), steps=steps)
    return detector
