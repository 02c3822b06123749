"""A control: the published code of `spatial_attention` (Vatterott 2016) computes a constant map.

Its attention is 1 / height at every position of every image.
"""

from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import (
    Detector,
    fit_lbfgs_cv,
    split_trainable_head,
    stages_with_maps,
)


class ConstantAttention(nn.Module):
    """Divide maps `[n, c, h, w]` by their height h.

    The published map is, at each position, the mean over classes of the soft-max over classes,
    divided by the sum of its column. A soft-max sums to 1, so its mean over k classes is 1 / k at
    any position of any image. The sum of a column is h / k, and the map is 1 / h.
    """

    def forward(self, maps: Tensor) -> Tensor:
        return maps / maps.shape[2]


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor, steps: int) -> nn.Module:
    shapes = stages_with_maps(backbone, pos[:1])
    names = [name for name, shape in shapes.items() if len(shape) == 3]
    if len(names) < 2:
        raise NotApplicable("the backbone has fewer than two stages with maps")
    before, after = backbone.upto(names[-2]), backbone.after(names[-2])
    network = nn.Sequential(before, ConstantAttention(), *after)
    frozen, head = split_trainable_head(network, backbone.target)
    detector = Detector(head, backbone.target, pos[:1], frozen=frozen, threshold=False)
    fit_lbfgs_cv(detector.scorer, *detector.frozen_features(pos, neg), steps=steps)
    return detector
