"""(IA)³ (Liu et al. 2022) with the layers of peft: a gain for each input channel of a layer.

y = layer(l * x),   l = 1 at first
"""

import re
from typing import Any

from peft import IA3Config, inject_adapter_in_model
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, fine_tune


def default_layers(network: nn.Module) -> list[str]:
    """Return the names of all convolutions, or of the second layer of each MLP in a transformer."""
    modules = dict(network.named_modules())
    if any(isinstance(module, nn.MultiheadAttention) for module in modules.values()):
        return [name for name in modules if name.endswith(".mlp.3")]
    return [name for name, module in modules.items() if isinstance(module, nn.Conv2d)]


def insert_gains(network: nn.Module, layers: str) -> None:
    """Insert peft's gains in front of layers, in place.

    Args:
        network: with layers that are convolutions or linear.
        layers: a regular expression for full names; if empty, `default_layers` are used.
    """
    pattern = layers or "|".join(map(re.escape, default_layers(network)))
    if not any(re.fullmatch(pattern, name) for name, _ in network.named_modules() if name):
        raise NotApplicable(
            f"no layer of the backbone matches {layers!r}"
            if layers
            else "the backbone has neither convolutions nor the MLPs of a transformer"
        )
    # peft puts the gains of a feedforward module on the inputs of the layer, not on its outputs.
    config = IA3Config(target_modules=pattern, feedforward_modules=pattern)
    inject_adapter_in_model(config, network)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    layers: str,
    **training: Any,
) -> nn.Module:
    insert_gains(backbone, layers)
    detector = Detector(backbone, backbone.target, pos[:1])
    fine_tune(detector, pos, neg, **training)
    return detector
