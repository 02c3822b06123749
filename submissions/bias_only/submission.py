"""A control that can only move the criterion: one bias b on the target's log-odds.

score = logit of the target - logsumexp(other logits) + b
"""

from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, fit_readout, target_output


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor, steps: int) -> nn.Module:
    detector = Detector(nn.Identity(), target_output(backbone), pos[:1], frozen=backbone)
    fit_readout(detector, *detector.frozen_features(pos, neg), steps=steps)
    return detector
