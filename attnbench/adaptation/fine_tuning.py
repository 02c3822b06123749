"""Training a detector with Adam, from what the network can already do."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from attnbench.adaptation.detectors import Detector, LinearReadout
from attnbench.adaptation.features import frozen_features
from attnbench.adaptation.fitting import fit_adam, fit_lbfgs, separation
from attnbench.adaptation.layers import OutputBias
from attnbench.adaptation.model_selection import fit_lbfgs_cv, validation_split

# The learning rates among which `fine_tune` chooses, relative to the one it is given.
RATE_FACTORS = (1.0, 1 / 3, 1 / 10)


def fit_readout(detector: Detector, pos: Tensor, neg: Tensor, *, steps: int = 30) -> None:
    """Train a detector's threshold, or its linear read-out, and nothing else.

    A method that begins with it starts from what the network can already do, so that its learning
    rate has to suit the network's parameters only. The network's outputs are computed once.

    Args:
        detector: its threshold or read-out is trained in place.
        pos, neg: `[n, ...]`, from `detector.frozen_features`.
        steps: of L-BFGS, at most.

    Raises:
        ValueError: if the detector has neither a threshold nor a linear read-out.
    """
    outputs = [frozen_features(detector.trainable, features) for features in (pos, neg)]
    scorer = nn.Sequential(detector.threshold, detector.readout)
    fit = fit_lbfgs if isinstance(detector.threshold, OutputBias) else fit_lbfgs_cv
    fit(scorer, *outputs, steps=steps)


def fine_tune(
    detector: Detector,
    pos: Tensor,
    neg: Tensor,
    *,
    learning_rate: float,
    new_target_rate: float | None = None,
    epochs: int,
    stop_loss: float = 0.0,
    choose_rate: bool = False,
) -> None:
    """Train a detector's read-out first, and then all its trainable parameters with Adam.

    Args:
        detector: trained in place.
        pos, neg: images `[n, 3, h, w]`.
        learning_rate, epochs, stop_loss: see `fit_adam`.
        new_target_rate: the learning rate if the backbone has no output for the target; by default
            the same. The detector then has to learn more than small changes of what it knows.
        choose_rate: whether to choose among the learning rate, a third and a tenth of it, if the
            backbone has an output for the target. The one with the highest d_a on a quarter of the
            images, after training on the others, is then used to train on all. d_a is that of
            `separation`, which no threshold changes. A new read-out makes such a comparison of a few
            held-out images too noisy to help (docs/methods.md).
    """
    if isinstance(detector.readout, LinearReadout):
        learning_rate = learning_rate if new_target_rate is None else new_target_rate
        choose_rate = False
    features = detector.frozen_features(pos, neg)
    scorer = detector.scorer

    def train(pos: Tensor, neg: Tensor, factor: float) -> None:
        fit_readout(detector, pos, neg)
        rate = factor * learning_rate
        fit_adam(scorer, pos, neg, learning_rate=rate, epochs=epochs, stop_loss=stop_loss)

    factor = 1.0
    if choose_rate and min(len(pos), len(neg)) > 1:
        (pos_train, pos_held_out), (neg_train, neg_held_out) = map(validation_split, features)
        initial = copy.deepcopy(scorer.state_dict())

        def sensitivity(factor: float) -> float:
            train(pos_train, neg_train, factor)
            scores = [frozen_features(scorer, rows) for rows in (pos_held_out, neg_held_out)]
            scorer.load_state_dict(initial)
            # Training that diverged has no d_a.
            return separation(*scores).nan_to_num(-torch.inf).item()

        # The first of equally good ones, which is the largest.
        factor = max(RATE_FACTORS, key=sensitivity)
    train(*features, factor)
