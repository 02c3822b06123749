"""Meta-mapping (Lampinen & McClelland 2020): gains predicted from a class's row of the head.

Classes that the network knows teach a linear map from prototypes z to gains after a middle stage:

    gains = max(0, mean gains + W (z - mean z))

The gains of the target are what the map predicts for its prototype, without any image of it.
"""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import (
    Detector,
    Gains,
    fit_gauss_newton,
    frozen_features,
    log_odds,
    middle_stage,
    num_channels,
    stages_with_maps,
    target_output,
)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    after: str,
    pictures: int,
    partners: int,
    references: int,
    images: int,
    steps: int,
    gains_penalty: float,
    map_penalty: float,
) -> nn.Module:
    target, neg = target_output(backbone), neg[:pictures]
    shapes = stages_with_maps(backbone, neg[:1])
    after = after or middle_stage(backbone, shapes)
    frozen, rest = backbone.upto(after), backbone.after(after)
    ones = torch.ones(num_channels(shapes[after]), device=neg.device)
    logits = frozen_features(backbone, neg)
    merged, first, second = merge(neg, partners)
    features = frozen_features(frozen, merged)
    trained = {}
    for reference in most_frequent_classes(logits, target)[:references]:
        shows_reference = highest(log_odds(logits, reference), images)
        present = shows_reference[first] | shows_reference[second]
        gains = Gains(ones.clone())
        fit_gauss_newton(
            Detector(nn.Sequential(gains, rest), reference, neg[:1]),
            features[present],
            features[~present],
            nonnegative=[gains.gains],
            steps=steps,
            penalty=gains_penalty,
        )
        trained[reference] = gains.gains.detach()
    prototypes = class_prototypes(backbone.stage(backbone.stages[-1]))
    predicted = predict_by_ridge(
        prototypes[[*trained]], torch.stack([*trained.values()]), prototypes[target], map_penalty
    )
    attended = nn.Sequential(Gains(predicted.clamp(min=0)), rest)
    return Detector(attended, target, neg[:1], frozen=frozen, threshold=False)


def class_prototypes(head: nn.Module) -> Tensor:
    """Return a prototype of each class, `[classes, k]`: its row of the head's weights."""
    *_, weights = (parameter for parameter in head.parameters() if parameter.dim() > 1)
    return weights.detach().flatten(1)


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


def merge(images: Tensor, partners: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean of each image and each of the next `partners` images, and their row numbers.

    Args:
        images: `[n, 3, h, w]`. After the last one, the first one follows.

    Returns:
        Merged images `[k, 3, h, w]`, and the rows of the two images in each, `[k]`.

    Raises:
        ValueError: if there are fewer than two images.
    """
    count = len(images)
    if count < 2:
        raise ValueError(f"images can only be merged with others, but there is {count} negative")
    first = torch.arange(count).repeat(partners)
    second = (first + torch.arange(1, partners + 1).repeat_interleave(count)) % count
    return (images[first] + images[second]) / 2, first, second


def highest(scores: Tensor, count: int) -> Tensor:
    """Return which of the scores `[n]` are the highest `count`, or the highest quarter, bool `[n]`."""
    is_high = torch.zeros_like(scores, dtype=torch.bool)
    is_high[scores.topk(max(1, min(count, len(scores) // 4))).indices] = True
    return is_high


def predict_by_ridge(x: Tensor, y: Tensor, new: Tensor, penalty: float) -> Tensor:
    """Return what a ridge regression from `x` to `y`, with an intercept, predicts for a new row.

        mean y + (new - mean x) W,   W = argmin |y - mean y - (x - mean x) W|² + a |W|²

    with a = penalty x mean |x - mean x|². It is solved in the dual: there are fewer rows than columns.

    Args:
        x: `[n, d]`.
        y: `[n, c]`.
        new: `[d]`.
        penalty: with a large one, the prediction is the mean of `y`, as it is with a single row.

    Returns:
        `[c]`.
    """
    centre, mean = x.mean(dim=0), y.mean(dim=0)
    x = x - centre
    kernel = x @ x.T
    strength = penalty * kernel.diagonal().mean()
    kernel.diagonal().add_(strength.where(strength > 0, 1))
    return mean + (new - centre) @ x.T @ torch.linalg.solve(kernel, y - mean)
