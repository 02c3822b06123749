"""LoRA (Hu et al. 2021) with the layers of peft: low-rank updates of attention or convolutions.

y = W x + (alpha / rank) B A x,   W frozen, A random and B zero at first
"""

import re
from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, fine_tune


def insert_lora(network: nn.Module, rank: int, alpha: float) -> None:
    """Wrap a network's attention layers, or its convolutions if it has none, in peft's layers.

    In attention, `in_proj_weight` is updated, which computes queries, keys and values. Grouped
    convolutions are left out, because peft requires a rank that the groups divide.
    """
    modules = list(network.named_modules())
    attention = [name for name, m in modules if isinstance(m, nn.MultiheadAttention)]
    convolutions = [name for name, m in modules if isinstance(m, nn.Conv2d) and m.groups == 1]
    if not attention and not convolutions:
        raise NotApplicable("the backbone has neither attention nor convolutions")
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        # A pattern of full names: peft looks for names in a list as the ends of other names too.
        target_modules=[] if attention else "|".join(map(re.escape, convolutions)),
        target_parameters=[f"{name}.in_proj_weight" for name in attention] or None,
    )
    inject_adapter_in_model(config, network)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    rank: int,
    alpha: float,
    **training: Any,
) -> nn.Module:
    insert_lora(backbone, rank, alpha)
    detector = Detector(backbone, backbone.target, pos[:1])
    fine_tune(detector, pos, neg, **training)
    return detector
