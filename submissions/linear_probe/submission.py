"""A linear probe: class-balanced logistic regression on the frozen features before the head."""

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import linear_detector


def adapt(
    backbone: Backbone, pos: Tensor, neg: Tensor, lowest: float, highest: float, tried: int
) -> nn.Module:
    penalties = torch.logspace(lowest, highest, tried).tolist()
    return linear_detector(backbone, pos, neg, penalties, probe)


def probe(c: float, pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor]:
    """Weight `[d]` and bias of the logistic regression on standardised features.

    Standardising, z = (x - mean) / deviation, is folded into them: w.z + b is linear in x too.

    Args:
        c: the inverse of the penalty, scikit-learn's C.
        pos, neg: features `[n, d]`.
    """
    x = torch.cat([pos, neg])
    mean, deviation = x.mean(dim=0), x.std(dim=0, correction=0)
    deviation = torch.where(deviation > 0, deviation, 1)
    present = [1] * len(pos) + [0] * len(neg)
    regression = LogisticRegression(C=c, class_weight="balanced", max_iter=1000)
    regression.fit(((x - mean) / deviation).cpu().numpy(), present)
    weight, bias = (
        torch.from_numpy(found).to(x) for found in (regression.coef_[0], regression.intercept_[0:1])
    )
    weight = weight / deviation
    return weight, bias[0] - weight @ mean
