"""The last layer retrained from its pretrained weights; everything else is frozen."""

from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, Precision, fit_lbfgs_cv, split_trainable_head


def adapt(
    backbone: Backbone, pos: Tensor, neg: Tensor, steps: int, precision: Precision
) -> nn.Module:
    frozen, head = split_trainable_head(backbone, backbone.target)
    detector = Detector(head, backbone.target, pos[:1], frozen=frozen, threshold=False)
    features = detector.frozen_features(pos, neg, precision=precision)
    fit_lbfgs_cv(detector.scorer, *features, steps=steps)
    return detector
