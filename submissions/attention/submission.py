"""Goal-directed attention (Luo, Roads & Love 2021): one gain per filter after a middle stage."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import channels_last, fit, frozen_outputs, log_odds


class Attention(nn.Module):
    """Multiplies channel k, `[n, k, ...]` or the last dimension of tokens, by its own gain."""

    def __init__(self, channels: int, tokens: bool) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.ones(channels if tokens else (channels, 1, 1)))

    def forward(self, features: Tensor) -> Tensor:
        return features * self.gains


class Attended(nn.Module):
    """The backbone with the attention layer in its middle, read out as one score.

    `readout` is None where the backbone has an output for the target: then the original head's
    log-odds are the score.
    """

    def __init__(self, backbone: Backbone, after: str, attention: Attention, width: int) -> None:
        super().__init__()
        self.before, self.behind = backbone.upto(after), backbone.after(after)
        self.attention = attention
        self.target = backbone.target
        self.readout = nn.Linear(width, 1) if backbone.target is None else None

    def logits(self, images: Tensor) -> Tensor:
        return self.behind(self.attention(self.before(channels_last(images))))

    def from_logits(self, logits: Tensor) -> Tensor:
        if self.readout is not None:
            return self.readout(logits).squeeze(1)
        return log_odds(logits, self.target)

    def forward(self, images: Tensor) -> Tensor:
        return self.from_logits(self.logits(images))


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    after: str,
    learning_rate: float,
    epochs: int,
    enough: float,
) -> nn.Module:
    after = after or middle_stage(backbone, pos[:1])
    with torch.no_grad():
        one = backbone.upto(after)(pos[:1])
        width = backbone.after(after)(one).shape[1]
    tokens = one.dim() == 3
    attention = Attention(one.shape[-1] if tokens else one.shape[1], tokens)
    detector = Attended(backbone, after, attention, width).to(pos.device)
    fit(
        lambda features: detector.from_logits(detector.behind(attention(features))),
        [parameter for parameter in detector.parameters() if parameter.requires_grad],
        # What lies before the gains never changes: once per image is enough.
        *(frozen_outputs(detector.before, side) for side in (pos, neg)),
        learning_rate=learning_rate,
        epochs=epochs,
        enough=enough,
        after_step=lambda: attention.gains.clamp_(min=0),
    )
    return detector


def middle_stage(backbone: Backbone, image: Tensor) -> str:
    """The middle one of the stages that give feature maps or tokens."""
    with_maps = []
    with torch.no_grad():
        for name in backbone.stages[:-1]:
            image = backbone.stage(name)(image)
            if image.dim() in (3, 4):
                with_maps.append(name)
    return with_maps[len(with_maps) // 2]
