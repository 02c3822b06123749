"""What submissions deliver: a network read out as one score, and the layers they put into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from attnbench.adaptation.features import channels_last

Kind = TypeVar("Kind", bound=nn.Module)


def log_odds(logits: Tensor, target: int) -> Tensor:
    """A classifier's log-odds of one class against all others together.

    log p / (1 - p) of the soft-max = logit of the target - logsumexp of the other logits; above 0
    the target is more likely than everything else together.

    Args:
        logits: `[n, classes]`, at least two classes.
        target: index of the class.

    Returns:
        `[n]`.
    """
    others = torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)
    return logits[:, target] - torch.logsumexp(others, dim=1)


class Detector(nn.Module):
    """A network read out as one score: images `[n, 3, h, w]` to scores `[n]`.

    The score is the log-odds of the target among the network's outputs. Where the target is new to the
    network, it is a linear read-out of them, `readout`, which is to be learned and counts.

    Args:
        network: an adapted backbone; its outputs are `[n, classes]`, or `[n, d]`.
        target: the target's index among the classes, or None.
        image: `[1, 3, h, w]` to see d by; its device becomes the read-out's.
    """

    def __init__(self, network: nn.Module, target: int | None, image: Tensor) -> None:
        super().__init__()
        self.network = network
        self.target = target
        self.readout: nn.Linear | None = None
        if target is None:
            with torch.no_grad():
                self.readout = nn.Linear(network(image).shape[1], 1, device=image.device)

    def logits(self, images: Tensor) -> Tensor:
        """The network's outputs, which arg-max read-outs are taken from."""
        return cast(Tensor, self.network(channels_last(images)))

    def from_logits(self, logits: Tensor) -> Tensor:
        """Scores `[n]` from the network's outputs."""
        if self.readout is not None:
            return cast(Tensor, self.readout(logits)).squeeze(1)
        assert self.target is not None
        return log_odds(logits, self.target)

    def forward(self, images: Tensor) -> Tensor:
        return self.from_logits(self.logits(images))

    def learned(self) -> list[nn.Parameter]:
        """The parameters that ask for gradients: what a submission has added, and the read-out."""
        return [each for each in self.parameters() if each.requires_grad]


class LinearDetector(nn.Module):
    """A linear read-out of features: score = weight . encoder(image) + bias.

    Args:
        encoder: images `[n, 3, h, w]` to features `[n, d]`.
        weight: `[d]`.
        bias: a scalar.
    """

    def __init__(self, encoder: nn.Module, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, images: Tensor) -> Tensor:
        features = cast(Tensor, self.encoder(channels_last(images)))
        return features @ self.weight + self.bias


def replace(
    network: nn.Module, kind: type[Kind], by: Callable[[Kind], nn.Module]
) -> list[nn.Module]:
    """Put `by(module)` into the place of every module of a kind within `network`.

    Args:
        network: changed in place.
        kind: which modules; subclasses too.
        by: what to put there; it may hold the module itself, such as `nn.Sequential(module, gain)`.

    Returns:
        What was put there, in the network's order.
    """
    found = [(name, each) for name, each in network.named_modules() if isinstance(each, kind)]
    put = []
    for name, module in found:
        parent, _, child = name.rpartition(".")
        put.append(by(module))
        setattr(network.get_submodule(parent), child, put[-1])
    return put
