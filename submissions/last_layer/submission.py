"""The last layer retrained from its pretrained weights, all else frozen."""

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from attnbench import Backbone, log_odds

BATCH = 64


class Retrained(nn.Module):
    """`head` is the backbone's own, trained on; where the target is new, a fresh read-out."""

    def __init__(self, features: nn.Module, head: nn.Module, target: int | None) -> None:
        super().__init__()
        self.features, self.head = features, head
        self.target = target

    def from_features(self, features: Tensor) -> Tensor:
        outputs = self.head(features)
        return outputs.squeeze(1) if self.target is None else log_odds(outputs, self.target)

    def logits(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.from_features(self.features(images))


def adapt(
    backbone: Backbone, pos: Tensor, neg: Tensor, learning_rate: float, epochs: int
) -> nn.Module:
    last = backbone.stages[-1]
    if backbone.target is None:
        with torch.no_grad():
            width = backbone(pos[:1]).shape[1]
        detector = Retrained(backbone, nn.Linear(width, 1).to(pos.device), None)
    else:
        head = backbone.stage(last).requires_grad_(True)
        detector = Retrained(backbone.upto(backbone.stages[-2]), head, backbone.target)
    with torch.no_grad():
        features = torch.cat([detector.features(b) for b in torch.cat([pos, neg]).split(BATCH)])
    signs = torch.cat([torch.ones(len(pos)), -torch.ones(len(neg))]).to(pos.device)
    weights = torch.cat([torch.full((len(s),), 0.5 / len(s)) for s in (pos, neg)]).to(pos.device)
    optimiser = torch.optim.Adam(detector.head.parameters(), learning_rate)
    for _ in range(epochs):
        optimiser.zero_grad()
        loss = (softplus(-signs * detector.from_features(features)) * weights).sum()
        loss.backward()
        optimiser.step()
    return detector
