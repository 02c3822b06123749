"""The 2016 noisy-MNIST model as its code has it: attention is 1 / height at all places."""

from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, solve_penalised, split_head, stages_with_maps


class ConstantAttention(nn.Module):
    """Divides maps `[n, c, h, w]` by their height.

    The published map: at each place the mean over classes of the soft-max over classes, divided by the
    sum of its column. A soft-max sums to 1, so its mean over k classes is 1 / k at any place of any
    image, the sum of a column is h / k, and the map is 1 / h.
    """

    def forward(self, maps: Tensor) -> Tensor:
        return maps / maps.shape[2]


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor, steps: int) -> nn.Module:
    maps = [name for name, s in stages_with_maps(backbone, pos[:1]).items() if len(s) == 3]
    if len(maps) < 2:
        raise NotApplicable("the backbone has no two stages with maps")
    before, behind = backbone.upto(maps[-2]), backbone.after(maps[-2])
    network = nn.Sequential(before, ConstantAttention(), *behind)
    frozen, head = split_head(network, backbone.target)
    detector = Detector(head, backbone.target, pos[:1], frozen=frozen)
    solve_penalised(detector.suffix, *detector.features(pos, neg), steps=steps)
    return detector
