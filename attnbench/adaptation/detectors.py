"""Detectors: networks whose output is read out as one decision score per image."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from attnbench.adaptation.features import Precision, channels_last, frozen_features
from attnbench.adaptation.layers import OutputBias
from attnbench.backbones.backbone import Backbone
from attnbench.errors import NotApplicable


def log_odds(logits: Tensor, target: int) -> Tensor:
    """Return a classifier's log-odds of one class against all others together.

    With p the soft-max probability of the target, these are

        log(p / (1 - p)) = logit of the target - logsumexp(logits of the other classes),

    which is above 0 if the target is more likely than all other classes together.

    Args:
        logits: `[n, classes]`, with at least two classes.
        target: the index of the class.

    Returns:
        Log-odds `[n]`.
    """
    other_logits = torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)
    return logits[:, target] - torch.logsumexp(other_logits, dim=1)


class LogOdds(nn.Module):
    """Map logits `[n, classes]` to the log-odds of the target `[n]`; see `log_odds`.

    Args:
        target: the index of the class.
    """

    def __init__(self, target: int) -> None:
        super().__init__()
        self.target = target

    def forward(self, logits: Tensor) -> Tensor:
        return log_odds(logits, self.target)


def target_output(backbone: Backbone) -> int:
    """Return the index of the target among the backbone's outputs.

    Raises:
        NotApplicable: if the backbone has no output for the target.
    """
    if backbone.target is None:
        raise NotApplicable(
            "the backbone has no output for this target; if it has one under another name, the task's "
            "`labels` must say which (docs/own-data.md)"
        )
    return backbone.target


class LinearReadout(nn.Module):
    """Map outputs `[n, d]` to scores `[n]`: weight . outputs + bias, with both zero at first.

    Args:
        features: d.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, outputs: Tensor) -> Tensor:
        # Not a matrix product: `fit_gauss_newton` passes one weight vector per image.
        return (outputs * self.weight).sum(dim=1) + self.bias


class Detector(nn.Module):
    """A network whose outputs are read out as one score: images `[n, 3, h, w]` to scores `[n]`.

    If the target is one of the network's outputs, the score is the target's log-odds plus a
    threshold: one number, zero at first, that is trained with the rest. Without it, a method would
    have to imitate a threshold with its other parameters. Otherwise the score is a linear read-out
    of all outputs, which starts at zero, has to be trained and counts as added.

    The network has two parts, so that the frozen one has to run only once per image:

        features = detector.frozen_features(pos, neg)
        fit_readout(detector, *features)
        fit_adam(detector.scorer, *features, learning_rate=0.01, epochs=10)

    Args:
        trainable: the layers from the first trained one on. They return `[n, classes]` or `[n, d]`.
        target: the target's index among the outputs, or None.
        image: `[1, 3, h, w]`, from which d is determined. A read-out is created on its device.
        frozen: the layers in front of `trainable`, none of which is trained; none by default.
        threshold: whether there is a threshold. Pass false if nothing is trained, or if `trainable`
            has a bias of its own for each output.

    Attributes:
        frozen, trainable: the two parts of the network.
        threshold: adds the threshold to the target's logit, or does nothing.
        readout: maps the network's outputs to scores.
    """

    def __init__(
        self,
        trainable: nn.Module,
        target: int | None,
        image: Tensor,
        *,
        frozen: nn.Module | None = None,
        threshold: bool = True,
    ) -> None:
        super().__init__()
        self.frozen = nn.Sequential() if frozen is None else frozen
        self.trainable = trainable
        self.threshold: nn.Module = nn.Identity()
        if target is not None and threshold:
            # On the target's logit, so that it also counts where the target must be the largest.
            self.threshold = OutputBias(target).to(image.device)
        self.readout: nn.Module
        if target is None:
            with torch.no_grad():
                self.readout = LinearReadout(self.logits(image).shape[1]).to(image.device)
        else:
            self.readout = LogOdds(target)

    def logits(self, images: Tensor) -> Tensor:
        """Return the network's outputs `[n, classes]` or `[n, d]`.

        attnbench's worker calls this method for tasks that are also read out by arg-max.
        """
        return cast(Tensor, self.threshold(self.trainable(self.frozen(channels_last(images)))))

    def from_logits(self, logits: Tensor) -> Tensor:
        """Return scores `[n]` for outputs of the network, as `logits` returns them."""
        return cast(Tensor, self.readout(logits))

    def forward(self, images: Tensor) -> Tensor:
        return self.from_logits(self.logits(images))

    @property
    def network(self) -> nn.Sequential:
        """What maps images to the outputs that `logits` returns; the modules are shared.

        `attnbench interference` hands it on, as the backbone of the next adaptation.
        """
        return nn.Sequential(self.frozen, self.trainable, self.threshold)

    @property
    def scorer(self) -> nn.Sequential:
        """The layers behind the frozen part: features `[n, ...]` to scores `[n]`.

        The modules are shared with the detector, so training the scorer trains the detector.
        """
        return nn.Sequential(self.trainable, self.threshold, self.readout)

    def frozen_features(
        self, pos: Tensor, neg: Tensor, *, precision: Precision = "float32"
    ) -> tuple[Tensor, Tensor]:
        """Return the frozen part's outputs for positives and negatives `[n, 3, h, w]`.

        See the function `frozen_features` for the precision and the errors.
        """
        return (
            frozen_features(self.frozen, pos, precision=precision),
            frozen_features(self.frozen, neg, precision=precision),
        )


class LinearDetector(nn.Module):
    """A linear read-out of features: score = weight . encoder(image) + bias.

    Args:
        encoder: maps images `[n, 3, h, w]` to features `[n, d]`.
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


def split_trainable_head(network: nn.Sequential, target: int | None) -> tuple[nn.Module, nn.Module]:
    """Split a network into a frozen part and its last stage, which is to be trained.

    If the target is not among the outputs, the frozen part is the whole network and the trainable
    part an identity. A `Detector` then trains a linear read-out.

    Args:
        network: with a target, its last stage is set to require gradients.
        target: the target's index among the outputs, or None.

    Returns:
        The frozen part and the trainable part. They share the network's modules.
    """
    modules = list(network.children())
    if target is None:
        return nn.Sequential(*modules), nn.Identity()
    return nn.Sequential(*modules[:-1]), modules[-1].requires_grad_(True)
