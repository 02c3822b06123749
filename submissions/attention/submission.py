"""Goal-directed attention (Luo, Roads & Love 2021): one gain per filter after a middle stage."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, fit, frozen_outputs, stages_with_maps


class Attention(nn.Module):
    """Multiplies channel k of maps `[n, k, h, w]`, or of tokens `[n, t, k]`, by its own gain."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.ones(shape[-1] if len(shape) == 2 else (shape[0], 1, 1)))

    def forward(self, features: Tensor) -> Tensor:
        return features * self.gains


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    after: str,
    intensity: float,
    learning_rate: float,
    epochs: int,
    enough: float,
) -> nn.Module:
    shapes = stages_with_maps(backbone, pos[:1])
    names = [name for name in shapes if name != backbone.stages[-1]]
    after = after or names[len(names) // 2]
    attention = Attention(shapes[after]).to(pos.device)
    before, behind = backbone.upto(after), backbone.after(after)
    detector = Detector(nn.Sequential(before, attention, behind), backbone.target, pos[:1])
    fit(
        lambda features: detector.from_logits(behind(attention(features))),
        detector.learned(),
        # What lies before the gains never changes: once per image is enough.
        *(frozen_outputs(before, side) for side in (pos, neg)),
        target_weight=intensity,
        learning_rate=learning_rate,
        epochs=epochs,
        enough=enough,
        after_step=lambda: attention.gains.clamp_(min=0),
    )
    return detector
