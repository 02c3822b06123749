"""The sixteen categories of Geirhos et al., and ImageNet classifiers that answer with them.

People in these experiments chose one of sixteen everyday categories, each of which stands for one or
more classes of ImageNet (Geirhos et al. 2018, arXiv 1808.08750).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from attnbench.backbones.backbone import Backbone
from attnbench.backbones.imagenet import WNIDS
from attnbench.errors import AttnbenchError

# Classes of ImageNet by their numbers, first and last of each run.
_RUNS: Mapping[str, Sequence[tuple[int, int]]] = MappingProxyType(
    {
        "airplane": ((404, 404),),
        "bear": ((294, 297),),
        "bicycle": ((444, 444), (671, 671)),
        "bird": (
            *((8, 8), (10, 16), (18, 20), (22, 24), (80, 83), (87, 96), (98, 100), (127, 133)),
            (135, 145),
        ),
        "boat": ((472, 472), (554, 554), (625, 625), (814, 814), (914, 914)),
        "bottle": ((440, 440), (720, 720), (737, 737), (898, 899), (901, 901), (907, 907)),
        "car": ((436, 436), (511, 511), (817, 817)),
        "cat": ((281, 286),),
        "chair": ((423, 423), (559, 559), (765, 765), (857, 857)),
        "clock": ((409, 409), (530, 530), (892, 892)),
        "dog": (
            *((152, 191), (193, 203), (205, 226), (228, 241), (243, 250), (252, 257), (259, 259)),
            *((261, 263), (265, 268)),
        ),
        "elephant": ((385, 386),),
        "keyboard": ((508, 508), (878, 878)),
        "knife": ((499, 499),),
        "oven": ((766, 766),),
        "truck": (
            *((555, 555), (569, 569), (656, 656), (675, 675), (717, 717), (734, 734), (864, 864)),
            (867, 867),
        ),
    }
)
# The names, in alphabetical order: the order of the outputs.
CATEGORIES: tuple[str, ...] = tuple(_RUNS)


def wnids_of_category(category: str) -> tuple[str, ...]:
    """Return the WordNet ids of the ImageNet classes that belong to one of `CATEGORIES`."""
    return tuple(wnid for first, last in _RUNS[category] for wnid in WNIDS[first : last + 1])


class CategoryLogits(nn.Module):
    """Map logits of ImageNet's 1,000 classes `[n, 1000]` to logits of the sixteen categories `[n, 16]`.

    A category's output is the log of the mean probability of its classes, up to a constant. The mean
    is that of Geirhos et al., so that a category of many classes is not favoured.

    Args:
        labels: the WordNet id of each logit.
    """

    log_weights: Tensor

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        log_weights = torch.full((len(CATEGORIES), len(labels)), -torch.inf)
        for number, category in enumerate(CATEGORIES):
            members = [labels.index(wnid) for wnid in wnids_of_category(category)]
            log_weights[number, members] = -torch.log(torch.tensor(float(len(members))))
        self.register_buffer("log_weights", log_weights)

    def forward(self, logits: Tensor) -> Tensor:
        return torch.logsumexp(logits[:, None, :] + self.log_weights, dim=2)


def with_sixteen_outputs(backbone: Backbone) -> Backbone:
    """Return a classifier of ImageNet whose outputs are the sixteen categories.

    The category outputs become part of its last stage, which is still the one that `last_layer` and
    others train. The modules are shared.

    Args:
        backbone: a network of torchvision, `torchvision/NAME`. The new one is called `sixteen/NAME`.

    Raises:
        AttnbenchError: if its outputs are not the classes of ImageNet.
    """
    if backbone.labels is None or not set(WNIDS).issubset(backbone.labels):
        raise AttnbenchError(
            f"{backbone.name} has no outputs for the 1,000 classes of ImageNet, from which the sixteen "
            "categories are made"
        )
    stages = dict(backbone.named_children())
    last = backbone.stages[-1]
    stages[last] = nn.Sequential(stages[last], CategoryLogits(backbone.labels))
    return Backbone(
        stages,
        name=f"sixteen/{backbone.name.partition('/')[2]}",
        labels=CATEGORIES,
        preprocessing=backbone.preprocessing,
    )
