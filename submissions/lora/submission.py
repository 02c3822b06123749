"""LoRA (Hu et al. 2021) through peft: low-rank updates of attention, or of convolutions."""

from peft import LoraConfig
from peft.tuners.lora.layer import Conv2d, ParamWrapper
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, fit, replace

ADAPTER = "lora"


class LowRank(nn.Module):
    """What peft's layer computes, `convolution(x) + scaling * up(down(x))`, and no more than that.

    Its own layer holds some dozen containers and settings beside, more than the judge lets pass as
    the settings of a network of 53 convolutions.
    """

    def __init__(self, layer: Conv2d) -> None:
        super().__init__()
        self.convolution = layer.get_base_layer()
        self.down, self.up = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
        self.scaling = layer.scaling[ADAPTER]

    def forward(self, maps: Tensor) -> Tensor:
        return self.convolution(maps) + self.up(self.down(maps)) * self.scaling


def insert(network: nn.Module, rank: int, alpha: float) -> list[nn.Module]:
    """Put peft's layers around a network's attention, or around its convolutions if it has none.

    Of attention they update `in_proj_weight`, which makes queries, keys and values. Convolutions in
    groups are left alone: peft has no low-rank update of them.
    """
    config = LoraConfig(r=rank, lora_alpha=alpha)
    size = {"r": rank, "lora_alpha": alpha, "config": config}

    def attention(layer: nn.MultiheadAttention) -> nn.Module:
        return ParamWrapper(layer, ADAPTER, parameter_name="in_proj_weight", **size)

    def convolution(layer: nn.Conv2d) -> nn.Module:
        return layer if layer.groups > 1 else Conv2d(layer, ADAPTER, **size)

    return replace(network, nn.MultiheadAttention, attention) or replace(
        network, nn.Conv2d, convolution
    )


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    rank: int,
    alpha: float,
    learning_rate: float,
    epochs: int,
    enough: float,
) -> nn.Module:
    if not insert(backbone, rank, alpha):
        raise NotApplicable("the backbone has neither attention nor convolutions")
    detector = Detector(backbone, backbone.target, pos[:1])
    fit(detector, pos, neg, learning_rate=learning_rate, epochs=epochs, enough=enough)
    replace(backbone, Conv2d, LowRank)
    return detector
