"""A network as its library builds it, and what is known about it, before it becomes a backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attnbench.backbones.backbone import Preprocessing
from attnbench.backbones.stage_splitting import NetworkT, Stages


@dataclass(frozen=True)
class Network:
    """An untrained network.

    Attributes:
        name: its name, such as `torchvision/vgg16`.
        model: the network, in eval mode.
        labels: the labels of its outputs when it has its published weights, or None.
        preprocessing: how its published weights want pictures to be prepared.
        split: takes the network and the size of its images and returns its stages, which share the
            network's tensors. Raises AttnbenchError if it cannot be split.
        download: fetches the published state dictionary, or reads it from a library's cache.
    """

    name: str
    model: nn.Module
    labels: tuple[str, ...] | None
    preprocessing: Preprocessing
    split: Callable[[nn.Module, int], Stages]
    download: Callable[[], Mapping[str, Tensor]]


def build_with_fixed_seed(build: Callable[[], NetworkT]) -> NetworkT:
    """Return the network that `build` makes with PyTorch's seed 0, in eval mode.

    The state of PyTorch's random number generator is restored afterwards.

    Args:
        build: makes the network and initialises its weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().eval()
