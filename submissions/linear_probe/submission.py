"""A linear probe (Alain & Bengio 2016): class-balanced logistic regression on frozen features."""

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Precision, fit_linear_detector


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    lowest: float,
    highest: float,
    candidates: int,
    precision: Precision,
) -> nn.Module:
    penalties = torch.logspace(lowest, highest, candidates).tolist()
    return fit_linear_detector(
        backbone, pos, neg, penalties, logistic_regression, precision=precision
    )


def logistic_regression(c: float, pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor]:
    """Fit a logistic regression on standardised features.

    The standardisation z = (x - mean) / deviation is folded into the result, because w.z + b is
    linear in x too.

    Args:
        c: the inverse of the penalty, scikit-learn's C.
        pos, neg: features `[n, d]`.

    Returns:
        The weight vector `[d]` and the bias, for features as they are.
    """
    x = torch.cat([pos, neg])
    mean, deviation = x.mean(dim=0), x.std(dim=0, correction=0)
    deviation = torch.where(deviation > 0, deviation, 1)
    labels = [1] * len(pos) + [0] * len(neg)
    regression = LogisticRegression(C=c, class_weight="balanced", max_iter=1000)
    regression.fit(((x - mean) / deviation).cpu().numpy(), labels)
    weight = torch.from_numpy(regression.coef_[0]).to(x) / deviation
    bias = torch.from_numpy(regression.intercept_).to(x)[0]
    return weight, bias - weight @ mean
