"""The last layer retrained from its pretrained weights, all else frozen."""

from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, fit, frozen_outputs


def adapt(
    backbone: Backbone, pos: Tensor, neg: Tensor, learning_rate: float, epochs: int, enough: float
) -> nn.Module:
    detector = Detector(backbone, backbone.target, pos[:1])
    frozen, trained = backbone, nn.Identity()
    if backbone.target is not None:
        frozen = backbone.upto(backbone.stages[-2])
        trained = backbone.stage(backbone.stages[-1]).requires_grad_(True)
    fit(
        lambda features: detector.from_logits(trained(features)),
        detector.learned(),
        *(frozen_outputs(frozen, side) for side in (pos, neg)),
        learning_rate=learning_rate,
        epochs=epochs,
        enough=enough,
    )
    return detector
