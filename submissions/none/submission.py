"""The backbone's own log-odds of the target."""

from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import channels_last, log_odds


class TargetLogOdds(nn.Module):
    def __init__(self, backbone: Backbone, target: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.target = target

    def logits(self, images: Tensor) -> Tensor:
        return self.backbone(channels_last(images))

    def from_logits(self, logits: Tensor) -> Tensor:
        return log_odds(logits, self.target)

    def forward(self, images: Tensor) -> Tensor:
        return self.from_logits(self.logits(images))


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
    if backbone.target is None:
        raise NotApplicable("the backbone has no output for this target")
    return TargetLogOdds(backbone, backbone.target)
