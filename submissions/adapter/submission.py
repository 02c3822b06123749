"""Residual bottleneck adapters (Houlsby et al. 2019; Rebuffi et al. 2017) after every stage."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, fit, stages_with_maps


class Adapter(nn.Module):
    """x + W₂ relu(W₁ x + b₁) + b₂ on the channels of maps `[n, k, h, w]` or of tokens `[n, t, k]`.

    The same at every place. W₂ and b₂ start at zero, so that an adapter starts as the identity.
    """

    def __init__(self, shape: torch.Size, reduction: int) -> None:
        super().__init__()
        self.channels = 1 if len(shape) == 3 else 2
        channels = shape[self.channels - 1]
        self.down = nn.Linear(channels, max(1, channels // reduction))
        self.up = nn.Linear(self.down.out_features, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, features: Tensor) -> Tensor:
        places = features.movedim(self.channels, -1)
        return features + self.up(self.down(places).relu()).movedim(-1, self.channels)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    reduction: int,
    learning_rate: float,
    epochs: int,
    enough: float,
) -> nn.Module:
    shapes = stages_with_maps(backbone, pos[:1])
    # A transformer's first stage makes the tokens, its blocks follow.
    skipped = [name for name, shape in shapes.items() if len(shape) == 2][:1]
    names = [name for name in shapes if name not in skipped and name != backbone.stages[-1]]
    before, behind = backbone.upto(names[0]), nn.Sequential()
    for name in backbone.stages[backbone.stages.index(names[0]) :]:
        if name != names[0]:
            behind.append(backbone.stage(name))
        if name in names:
            behind.append(Adapter(shapes[name], reduction))
    behind.to(pos.device)
    detector = Detector(behind, backbone.target, pos[:1], frozen=before)
    fit(
        detector.suffix,
        *detector.features(pos, neg),
        learning_rate=learning_rate,
        epochs=epochs,
        enough=enough,
    )
    return detector
