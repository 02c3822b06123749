"""What submissions deliver: a network read out as one score."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from attnbench.adaptation.features import channels_last, quick_outputs


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


class LogOdds(nn.Module):
    """Logits `[n, classes]` to the log-odds of the target among them, `[n]`; see `log_odds`."""

    def __init__(self, target: int) -> None:
        super().__init__()
        self.target = target

    def forward(self, logits: Tensor) -> Tensor:
        return log_odds(logits, self.target)


class Readout(nn.Module):
    """Outputs `[n, d]` to scores `[n]`, weight . outputs + bias: 0 until it is learned."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, outputs: Tensor) -> Tensor:
        return (outputs * self.weight).sum(dim=1) + self.bias


class Detector(nn.Module):
    """A network read out as one score: images `[n, 3, h, w]` to scores `[n]`.

    The score is the log-odds of the target among the network's outputs. Where the target is new to the
    network, it is a linear read-out of them, which is to be learned and counts.

    The network is in two parts, so that what never changes is computed once per image:

        features = detector.features(pos, neg)
        fit(detector.suffix, *features, learning_rate=0.01, epochs=10)

    Args:
        trained: the part from where something is learned; its outputs are `[n, classes]` or `[n, d]`.
        target: the target's index among the classes, or None.
        image: `[1, 3, h, w]` to see d by; its device becomes the read-out's.
        frozen: the part before it, in which nothing is.
    """

    def __init__(
        self,
        trained: nn.Module,
        target: int | None,
        image: Tensor,
        *,
        frozen: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.frozen = nn.Sequential() if frozen is None else frozen
        self.trained = trained
        self.read: nn.Module
        if target is None:
            with torch.no_grad():
                self.read = Readout(self.logits(image).shape[1]).to(image.device)
        else:
            self.read = LogOdds(target)

    def logits(self, images: Tensor) -> Tensor:
        """The network's outputs, which arg-max read-outs are taken from."""
        return cast(Tensor, self.trained(self.frozen(channels_last(images))))

    def from_logits(self, logits: Tensor) -> Tensor:
        """Scores `[n]` from the network's outputs."""
        return cast(Tensor, self.read(logits))

    def forward(self, images: Tensor) -> Tensor:
        return self.from_logits(self.logits(images))

    @property
    def suffix(self) -> nn.Sequential:
        """What follows the frozen part, up to the score. Shares the modules."""
        return nn.Sequential(self.trained, self.read)

    def features(self, pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor]:
        """What the frozen part makes of positives and negatives `[n, 3, h, w]`; see `quick_outputs`."""
        return quick_outputs(self.frozen, pos), quick_outputs(self.frozen, neg)


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


def split_head(network: nn.Sequential, target: int | None) -> tuple[nn.Module, nn.Module]:
    """A network cut before its last stage, to train that one: frozen part and part to be trained.

    Where the target is none of its outputs, the last stage stays as it is, and the second part is
    empty: a `Detector` then learns a read-out of all outputs.

    Args:
        network: its last stage is set to ask for gradients.
        target: the target's index among its outputs, or None.
    """
    modules = list(network.children())
    if target is None:
        return nn.Sequential(*modules), nn.Identity()
    return nn.Sequential(*modules[:-1]), modules[-1].requires_grad_(True)
