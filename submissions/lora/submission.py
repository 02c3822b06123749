"""LoRA (Hu et al. 2021) with the layers of peft: low-rank updates of attention or convolutions.

y = W x + (alpha / rank) B A x,   W frozen, A random and B zero at first
"""

from peft import LoraConfig
from peft.tuners.lora.layer import Conv2d, ParamWrapper
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, fit_adam, replace_modules

ADAPTER = "lora"


class LowRankConvolution(nn.Module):
    """Compute what peft's layer does, `convolution(x) + scaling * up(down(x))`, and hold only that.

    peft's own layer also has a dozen containers and settings. In a network with 53 convolutions
    they exceed the number of settings that the judge accepts.
    """

    def __init__(self, layer: Conv2d) -> None:
        super().__init__()
        self.convolution = layer.get_base_layer()
        self.down, self.up = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
        self.scaling = layer.scaling[ADAPTER]

    def forward(self, maps: Tensor) -> Tensor:
        return self.convolution(maps) + self.up(self.down(maps)) * self.scaling


def insert_lora(network: nn.Module, rank: int, alpha: float) -> list[nn.Module]:
    """Wrap a network's attention layers, or its convolutions if it has none, in peft's layers.

    In attention, `in_proj_weight` is updated, which computes queries, keys and values. Grouped
    convolutions are left out, because peft requires a rank that the groups divide.
    """
    config = LoraConfig(r=rank, lora_alpha=alpha)
    settings = {"r": rank, "lora_alpha": alpha, "config": config}

    def wrap_attention(layer: nn.MultiheadAttention) -> nn.Module:
        return ParamWrapper(layer, ADAPTER, parameter_name="in_proj_weight", **settings)

    def wrap_convolution(layer: nn.Conv2d) -> nn.Module:
        return layer if layer.groups > 1 else Conv2d(layer, ADAPTER, **settings)

    return replace_modules(network, nn.MultiheadAttention, wrap_attention) or replace_modules(
        network, nn.Conv2d, wrap_convolution
    )


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    rank: int,
    alpha: float,
    learning_rate: float,
    epochs: int,
    stop_loss: float,
) -> nn.Module:
    if not insert_lora(backbone, rank, alpha):
        raise NotApplicable("the backbone has neither attention nor convolutions")
    detector = Detector(backbone, backbone.target, pos[:1])
    fit_adam(detector, pos, neg, learning_rate=learning_rate, epochs=epochs, stop_loss=stop_loss)
    replace_modules(backbone, Conv2d, LowRankConvolution)
    return detector
