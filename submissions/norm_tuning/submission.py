"""The affine parameters of the normalisation layers trained, and nothing else."""

from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, fit


def adapt(
    backbone: Backbone, pos: Tensor, neg: Tensor, learning_rate: float, epochs: int, enough: float
) -> nn.Module:
    kinds = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
    norms = [module for module in backbone.modules() if isinstance(module, kinds)]
    if not norms:
        raise NotApplicable("the backbone has no normalisation layer")
    for norm in norms:
        norm.requires_grad_(True)
    detector = Detector(backbone, backbone.target, pos[:1])
    fit(detector, pos, neg, learning_rate=learning_rate, epochs=epochs, enough=enough)
    return detector
