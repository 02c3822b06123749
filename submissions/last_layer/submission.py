"""The last layer retrained from its pretrained weights, all else frozen."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import channels_last, fit, frozen_outputs, log_odds


class Retrained(nn.Module):
    """`head` is the backbone's own, trained on; where the target is new, a fresh read-out."""

    def __init__(self, features: nn.Module, head: nn.Module, target: int | None) -> None:
        super().__init__()
        self.features, self.head = features, head
        self.target = target

    def logits(self, images: Tensor) -> Tensor:
        return self.head(self.features(channels_last(images)))

    def from_logits(self, logits: Tensor) -> Tensor:
        return logits.squeeze(1) if self.target is None else log_odds(logits, self.target)

    def forward(self, images: Tensor) -> Tensor:
        return self.from_logits(self.logits(images))


def adapt(
    backbone: Backbone, pos: Tensor, neg: Tensor, learning_rate: float, epochs: int, enough: float
) -> nn.Module:
    last = backbone.stages[-1]
    if backbone.target is None:
        with torch.no_grad():
            width = backbone(pos[:1]).shape[1]
        detector = Retrained(backbone, nn.Linear(width, 1).to(pos.device), None)
    else:
        head = backbone.stage(last).requires_grad_(True)
        detector = Retrained(backbone.upto(backbone.stages[-2]), head, backbone.target)
    fit(
        lambda features: detector.from_logits(detector.head(features)),
        detector.head.parameters(),
        *(frozen_outputs(detector.features, side) for side in (pos, neg)),
        learning_rate=learning_rate,
        epochs=epochs,
        enough=enough,
    )
    return detector
