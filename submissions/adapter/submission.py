"""Residual bottleneck adapters (Houlsby et al. 2019; Rebuffi et al. 2017) after every stage.

An adapter is a narrow network of two layers whose output is added to its input:

    y = x + W₂ relu(W₁ x + b₁) + b₂
"""

from typing import Any

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, fine_tune, stages_with_maps


class Adapter(nn.Module):
    """An adapter on the channels of maps `[n, k, h, w]` or tokens `[n, t, k]`.

    It is the same at every position. W₂ and b₂ start at zero, so an adapter starts as the identity.

    Args:
        shape: of the maps or tokens, without n.
        reduction: k over the number of channels in the bottleneck.
    """

    def __init__(self, shape: torch.Size, reduction: int) -> None:
        super().__init__()
        self.channel_dim = 1 if len(shape) == 3 else 2
        channels = shape[self.channel_dim - 1]
        self.down = nn.Linear(channels, max(1, channels // reduction))
        self.up = nn.Linear(self.down.out_features, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, features: Tensor) -> Tensor:
        channels_last = features.movedim(self.channel_dim, -1)
        return features + self.up(self.down(channels_last).relu()).movedim(-1, self.channel_dim)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    reduction: int,
    **training: Any,
) -> nn.Module:
    shapes = stages_with_maps(backbone, pos[:1])
    # The first stage of a transformer embeds the patches. Adapters follow its blocks only.
    embedding = [name for name, shape in shapes.items() if len(shape) == 2][:1]
    adapted = [name for name in shapes if name not in embedding and name != backbone.stages[-1]]
    frozen, trainable = backbone.upto(adapted[0]), nn.Sequential()
    for name in backbone.stages[backbone.stages.index(adapted[0]) :]:
        if name != adapted[0]:
            trainable.append(backbone.stage(name))
        if name in adapted:
            trainable.append(Adapter(shapes[name], reduction))
    trainable.to(pos.device)
    detector = Detector(trainable, backbone.target, pos[:1], frozen=frozen)
    fine_tune(detector, pos, neg, **training)
    return detector
