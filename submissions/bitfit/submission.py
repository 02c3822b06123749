"""BitFit (Ben Zaken et al. 2022): train all biases of the network and freeze all weights.

y = W x + b,   only b is trained
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
    # This includes `in_proj_bias`, the bias of an attention layer's queries, keys and values.
    biases = [parameter for name, parameter in backbone.named_parameters() if name.endswith("bias")]
    if not biases:
        raise NotApplicable("the backbone has no biases")
    for bias in biases:
        bias.requires_grad_(True)
    detector = Detector(backbone, backbone.target, pos[:1])
    fine_tune(detector, pos, neg, **training)
    return detector
