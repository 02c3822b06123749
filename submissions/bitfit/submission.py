"""BitFit (Ben Zaken et al. 2022): all biases trained, and nothing else."""

from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, fit


def adapt(
    backbone: Backbone, pos: Tensor, neg: Tensor, learning_rate: float, epochs: int, enough: float
) -> nn.Module:
    # `in_proj_bias`, that of attention's queries, keys and values, is one too.
    biases = [each for name, each in backbone.named_parameters() if name.endswith("bias")]
    if not biases:
        raise NotApplicable("the backbone has no bias")
    for bias in biases:
        bias.requires_grad_(True)
    detector = Detector(backbone, backbone.target, pos[:1])
    fit(detector, pos, neg, learning_rate=learning_rate, epochs=epochs, enough=enough)
    return detector
