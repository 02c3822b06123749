"""Squeeze-and-excitation (Hu, Shen & Sun 2018) after a middle stage: gains that each image sets."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, Pooled, fit, frozen_outputs, stages_with_maps


class SqueezeExcite(nn.Module):
    """x_k · 2 sigmoid(W₂ relu(W₁ z))_k with z the mean of x over positions.

    For maps `[n, k, h, w]` or tokens `[n, t, k]`. W₂ starts at zero, so that all gains are one.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        narrow = max(1, channels // reduction)
        self.pool = Pooled()
        self.squeeze = nn.Linear(channels, narrow, bias=False)
        self.excite = nn.Linear(narrow, channels, bias=False)
        nn.init.zeros_(self.excite.weight)

    def forward(self, features: Tensor) -> Tensor:
        z = self.squeeze(self.pool(features)).relu()
        gains = 2 * torch.sigmoid(self.excite(z))
        return features * (gains[:, None] if features.dim() == 3 else gains[..., None, None])


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    after: str,
    reduction: int,
    learning_rate: float,
    epochs: int,
    enough: float,
) -> nn.Module:
    shapes = stages_with_maps(backbone, pos[:1])
    names = [name for name in shapes if name != backbone.stages[-1]]
    after = after or names[len(names) // 2]
    maps = len(shapes[after]) == 3
    block = SqueezeExcite(shapes[after][0 if maps else 1], reduction).to(pos.device)
    before, behind = backbone.upto(after), backbone.after(after)
    detector = Detector(nn.Sequential(before, block, behind), backbone.target, pos[:1])
    fit(
        lambda features: detector.from_logits(behind(block(features))),
        detector.learned(),
        # What lies before the block never changes: once per image is enough.
        *(frozen_outputs(before, side) for side in (pos, neg)),
        learning_rate=learning_rate,
        epochs=epochs,
        enough=enough,
    )
    return detector
