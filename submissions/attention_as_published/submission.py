"""Goal-directed attention as published (Luo, Roads & Love 2021): gains, and no threshold.

Channel k of a middle stage is multiplied by a gain, y_k = g_k x_k with g_k ≥ 0 and g_k = 1 at first.
The gains minimise the cross-entropy over all outputs of the backbone. The weight of the target in it
is the intensity α:

    α mean over positives of -log p(target) + (1 - α) mean over negatives of -log p(label)

An image has the target if no other output is larger:

    score = logit of the target - largest other logit
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from attnbench import Backbone
from attnbench.adaptation import (
    Detector,
    Gains,
    frozen_features,
    middle_stage,
    num_channels,
    stages_with_maps,
    target_output,
)

BATCH_SIZE = 16


class Lead(nn.Module):
    """Map logits `[n, classes]` to the target's lead over the largest other logit, `[n]`.

    Args:
        target: the index of the target.
    """

    def __init__(self, target: int) -> None:
        super().__init__()
        self.target = target

    def forward(self, logits: Tensor) -> Tensor:
        others = logits.clone()
        others[:, self.target] = -torch.inf
        return logits[:, self.target] - others.amax(dim=1)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    after: str,
    intensity: float,
    learning_rate: float,
    epochs: int,
) -> nn.Module:
    target = target_output(backbone)
    shapes = stages_with_maps(backbone, pos[:1])
    after = after or middle_stage(backbone, shapes)
    attention = Gains(torch.ones(num_channels(shapes[after]), device=pos.device))
    rest = backbone.after(after)
    network = nn.Sequential(attention, *rest)
    detector = Detector(network, target, pos[:1], frozen=backbone.upto(after), threshold=False)
    detector.readout = Lead(target)
    present, absent = detector.frozen_features(pos, neg)
    labels = torch.cat(
        [torch.full((len(present),), target), likeliest_labels(rest, absent, target)]
    )
    counts = torch.tensor([len(present), len(absent)])
    weights = (torch.tensor([intensity, 1 - intensity]) / counts).repeat_interleave(counts)
    fit_gains(
        network,
        attention,
        torch.cat([present, absent]),
        labels.to(pos.device),
        weights.to(pos.device),
        learning_rate=learning_rate,
        epochs=epochs,
    )
    return detector


def likeliest_labels(rest: nn.Module, features: Tensor, target: int) -> Tensor:
    """Return the backbone's own label of each negative, other than the target, `[n]`.

    The paper knows the labels of its negatives. A submission does not.
    """
    logits = frozen_features(rest, features)
    logits[:, target] = -torch.inf
    return logits.argmax(dim=1).cpu()


def fit_gains(
    network: nn.Module,
    attention: Gains,
    features: Tensor,
    labels: Tensor,
    weights: Tensor,
    *,
    learning_rate: float,
    epochs: int,
) -> None:
    """Minimise the weighted cross-entropy with Adam. Gains below zero are set to zero, as in Keras.

    Args:
        network: maps features `[n, ...]` to logits `[n, classes]`.
        attention: its gains, which are trained.
        features: `[n, ...]`.
        labels: `[n]`.
        weights: of each image in the loss, `[n]`; they sum to one.
    """
    optimiser = torch.optim.Adam([attention.gains], learning_rate)
    for _ in range(epochs):
        for rows in torch.randperm(len(features)).to(features.device).split(BATCH_SIZE):
            optimiser.zero_grad()
            losses = cross_entropy(network(features[rows]), labels[rows], reduction="none")
            # Scaled as if each batch were the whole data set, so that α keeps its meaning.
            (len(features) / len(rows) * (weights[rows] @ losses)).backward()
            optimiser.step()
            with torch.no_grad():
                attention.gains.clamp_(min=0)
