"""The backbone's own log-odds of the target."""

from torch import Tensor, nn

from attnbench import Backbone, NotApplicable, log_odds


class TargetLogOdds(nn.Module):
    def __init__(self, backbone: Backbone, target: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.target = target

    def logits(self, images: Tensor) -> Tensor:
        return self.backbone(images)

    def forward(self, images: Tensor) -> Tensor:
        return log_odds(self.logits(images), self.target)


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor) -> nn.Module:
    if backbone.target is None:
        raise NotApplicable("the backbone has no output for this target")
    return TargetLogOdds(backbone, backbone.target)
