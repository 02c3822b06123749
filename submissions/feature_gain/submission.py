"""Multiplicative feature-based attention (thesis, Harvard 2017): a gain on every filter."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, fit, replace, stages_with_maps


class Gain(nn.Module):
    """Multiplies each channel by its own gain: shape `[k, 1, 1]` for maps, `[k]` for tokens."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.ones(shape))

    def forward(self, features: Tensor) -> Tensor:
        return features * self.gains


def put_gains(backbone: Backbone, image: Tensor) -> list[Gain]:
    """A gain behind every convolution; in a transformer, behind every block.

    Where batch norm follows the convolutions, behind that: before it, a gain would shift as well.

    Args:
        backbone: changed in place.
        image: `[1, 3, h, w]`.

    Returns:
        The gains, in the network's order.
    """
    shapes = stages_with_maps(backbone, image)
    tokens = [name for name, shape in shapes.items() if len(shape) == 2]
    for name in tokens[1:]:  # the first makes the tokens, the others are the blocks
        setattr(backbone, name, nn.Sequential(backbone.stage(name), Gain(*shapes[name][1:])))
    if not tokens:
        normalised = any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
        replace(
            backbone,
            nn.BatchNorm2d if normalised else nn.Conv2d,
            lambda module: nn.Sequential(module, Gain(len(module.weight), 1, 1)),
        )
    backbone.to(image.device)
    return [module for module in backbone.modules() if isinstance(module, Gain)]


def adapt(
    backbone: Backbone, pos: Tensor, neg: Tensor, learning_rate: float, epochs: int, enough: float
) -> nn.Module:
    gains = put_gains(backbone, pos[:1])
    detector = Detector(backbone, backbone.target, pos[:1])
    fit(
        detector,
        detector.learned(),
        pos,
        neg,
        learning_rate=learning_rate,
        epochs=epochs,
        enough=enough,
        after_step=lambda: [gain.gains.clamp_(min=0) for gain in gains],
    )
    return detector
