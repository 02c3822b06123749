"""Train the affine parameters of all normalisation layers and nothing else (Frankle et al. 2021).

y = γ (x - mean) / deviation + β,   only γ and β are trained
"""

from typing import Any

from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, fine_tune


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    **training: Any,
) -> nn.Module:
    kinds = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
    norms = [module for module in backbone.modules() if isinstance(module, kinds)]
    if not norms:
        raise NotApplicable("the backbone has no normalisation layer")
    for norm in norms:
        norm.requires_grad_(True)
    detector = Detector(backbone, backbone.target, pos[:1])
    fine_tune(detector, pos, neg, **training)
    return detector
