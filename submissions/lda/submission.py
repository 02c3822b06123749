"""Linear discriminant analysis (Fisher 1936) with a shrunk covariance, in closed form."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Precision, fit_linear_detector


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    lowest: float,
    candidates: int,
    precision: Precision,
) -> nn.Module:
    shrinkages = torch.logspace(lowest, 0, candidates).tolist()
    return fit_linear_detector(backbone, pos, neg, shrinkages, lda, precision=precision)


def lda(shrinkage: float, pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-odds of two equally likely normal classes with the same covariance C.

        w = C^-1 (m+ - m-),   b = -w.(m+ + m-) / 2,
        C = (1 - shrinkage) S + shrinkage (trace S / d) I,   S = (S+ + S-) / 2,

    with the means m and the covariances S (divided by n) of the classes.

    Args:
        shrinkage: above 0 and at most 1.
        pos, neg: features `[n, d]`.

    Returns:
        The weight vector w `[d]` and the bias b.
    """
    means = [features.double().mean(dim=0) for features in (pos, neg)]
    # The scaled rows x satisfy S = X'X.
    x = torch.cat(
        [
            (features - mean) / (2 * len(features)) ** 0.5
            for features, mean in zip((pos, neg), means, strict=True)
        ]
    )
    n, d = x.shape
    ridge = (shrinkage * x.square().sum() / d).clamp_min(1e-12)
    x = (1 - shrinkage) ** 0.5 * x
    difference = means[0] - means[1]
    # The smaller of two matrices is solved, by the Woodbury identity:
    # (X'X + r)^-1 v = (v - X' (XX' + r)^-1 X v) / r.
    gram = x @ x.T if n < d else x.T @ x
    gram.diagonal().add_(ridge)
    if n < d:
        weight = (difference - x.T @ torch.linalg.solve(gram, x @ difference)) / ridge
    else:
        weight = torch.linalg.solve(gram, difference)
    bias = -weight @ (means[0] + means[1]) / 2
    return weight.to(pos), bias.to(pos)
