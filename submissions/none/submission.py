"""No adaptation: the backbone's own log-odds of the target."""

from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
    if backbone.target is None:
        raise NotApplicable("the backbone has no output for this target")
    return Detector(backbone, backbone.target, pos[:1])
