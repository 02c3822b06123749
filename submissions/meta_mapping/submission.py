"""Meta-mapping (Lampinen & McClelland 2020): gains predicted from a class's prototype.

Classes that the network knows teach a map from a prototype z to gains in front of the head:

    g_k = max(0, level + slope z_k)

The gains of the target are what the map predicts for its prototype, without any image of it.
"""

import torch
from torch import Tensor, nn

from attnbench import Backbone, NotApplicable
from attnbench.adaptation import Detector, Gains, fit_gauss_newton, frozen_features, log_odds


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    references: int,
    images: int,
    steps: int,
    stop_loss: float,
) -> nn.Module:
    target = backbone.target
    if target is None:
        raise NotApplicable("the backbone has no outputs that could serve as reference classes")
    frozen, head = backbone.upto(backbone.stages[-2]), backbone.stage(backbone.stages[-1])
    prototypes = class_prototypes(head)
    features = frozen_features(frozen, neg)
    logits = frozen_features(head, features)
    trained, count = {}, min(images, len(features) // 2)
    for reference in most_frequent_classes(logits, target)[:references]:
        # The network ranks images well even where its threshold is wrong. So the images with the
        # highest log-odds serve as images of the class.
        order = log_odds(logits, reference).argsort(descending=True)
        gains = Gains(torch.ones_like(prototypes[reference]))
        fit_gauss_newton(
            Detector(nn.Sequential(gains, head), reference, neg[:1], threshold=False),
            features[order[:count]],
            features[order[count:]],
            nonnegative=[gains.gains],
            steps=steps,
            stop_loss=stop_loss,
        )
        trained[reference] = gains.gains.detach()
    slope, level = fit_line(prototypes[list(trained)], torch.stack([*trained.values()]))
    gains = Gains((level + slope * prototypes[target]).clamp(min=0))
    network = nn.Sequential(gains, head)
    return Detector(network, target, pos[:1], frozen=frozen, threshold=False)


def class_prototypes(head: nn.Module) -> Tensor:
    """Return a prototype of each class, `[classes, k]`: its row of the head's weights, normalised.

    The mean row is subtracted, because only differences between rows tell classes apart. The result
    is divided by the standard deviation of all weights.
    """
    *_, weights = (parameter for parameter in head.parameters() if parameter.dim() > 1)
    rows = weights.detach().flatten(1)
    return (rows - rows.mean(dim=0)) / rows.std()


def most_frequent_classes(logits: Tensor, target: int) -> list[int]:
    """Return the classes with the largest logit for any image, the most frequent first.

    Args:
        logits: `[n, classes]`.
        target: the index of a class that is left out.
    """
    other_logits = logits.clone()
    other_logits[:, target] = -torch.inf
    classes, counts = other_logits.argmax(dim=1).unique(return_counts=True)
    return classes[counts.argsort(descending=True, stable=True)].tolist()


def fit_line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return slope and level of the least-squares line y = level + slope x."""
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return slope, y.mean() - slope * x.mean()
