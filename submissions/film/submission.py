"""FiLM (Perez et al. 2018): a scale and a shift for every channel behind every convolution."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, fit, replace, stages_with_maps


class Film(nn.Module):
    """scale x + shift, per channel: shape `[k, 1, 1]` for maps, `[k]` for tokens."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(shape))
        self.shift = nn.Parameter(torch.zeros(shape))

    def forward(self, features: Tensor) -> Tensor:
        return features * self.scale + self.shift


def put_film(backbone: Backbone, image: Tensor) -> None:
    """A `Film` behind every convolution and its batch norm; in a transformer, behind every block.

    Args:
        backbone: changed in place.
        image: `[1, 3, h, w]`.
    """
    shapes = stages_with_maps(backbone, image)
    tokens = [name for name, shape in shapes.items() if len(shape) == 2]
    for name in tokens[1:]:  # the first makes the tokens, the others are the blocks
        setattr(backbone, name, nn.Sequential(backbone.stage(name), Film(*shapes[name][1:])))
    if not tokens:
        normalised = any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
        replace(
            backbone,
            nn.BatchNorm2d if normalised else nn.Conv2d,
            lambda module: nn.Sequential(module, Film(len(module.weight), 1, 1)),
        )
    backbone.to(image.device)


def adapt(
    backbone: Backbone, pos: Tensor, neg: Tensor, learning_rate: float, epochs: int, enough: float
) -> nn.Module:
    put_film(backbone, pos[:1])
    detector = Detector(backbone, backbone.target, pos[:1])
    fit(
        detector,
        detector.learned(),
        pos,
        neg,
        learning_rate=learning_rate,
        epochs=epochs,
        enough=enough,
    )
    return detector
