"""(IA)³ (Liu et al. 2022) through peft: a gain for each channel that goes into a layer."""

import re

from peft import IA3Config
from peft.tuners.ia3.layer import Conv2d, Linear
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, fit


def usual_layers(network: nn.Module) -> list[str]:
    """The names of a network's convolutions; of a transformer, those of its MLPs' second layers."""
    modules = dict(network.named_modules())
    if any(isinstance(each, nn.MultiheadAttention) for each in modules.values()):
        return [name for name in modules if name.endswith(".mlp.3")]
    return [name for name, each in modules.items() if isinstance(each, nn.Conv2d)]


def insert(network: nn.Module, layers: str) -> None:
    """Put peft's gains before the layers whose name matches `layers`, or the usual ones if empty."""
    names = usual_layers(network)
    if layers:
        names = [name for name, _ in network.named_modules() if re.fullmatch(layers, name)]
    if not names:
        raise NotApplicable(f"the backbone has no layers {layers or 'such as convolutions'}")
    config = IA3Config()
    for name in names:
        layer = network.get_submodule(name)
        kind = Conv2d if isinstance(layer, nn.Conv2d) else Linear
        # is_feedforward: the gains are of what goes into the layer, not of what comes out.
        gained = kind(layer, "ia3", config=config, is_feedforward=True)
        network.set_submodule(name, gained)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    layers: str,
    learning_rate: float,
    epochs: int,
    enough: float,
) -> nn.Module:
    insert(backbone, layers)
    detector = Detector(backbone, backbone.target, pos[:1])
    fit(detector, pos, neg, learning_rate=learning_rate, epochs=epochs, enough=enough)
    return detector
