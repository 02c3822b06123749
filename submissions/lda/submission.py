"""Linear discriminant analysis with a shrunk covariance, in closed form."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import linear_detector


def adapt(backbone: Backbone, pos: Tensor, neg: Tensor, lowest: float, tried: int) -> nn.Module:
    shrinkages = torch.logspace(lowest, 0, tried).tolist()
    return linear_detector(backbone, pos, neg, shrinkages, discriminant)


def discriminant(shrinkage: float, pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor]:
    """Weight `[d]` and bias of the log-odds of two normal classes of one covariance, equally likely.

        w = C^-1 (m+ - m-),   b = -w.(m+ + m-) / 2,
        C = (1 - shrinkage) S + shrinkage (trace S / d) I,   S = (S+ + S-) / 2,

    with the classes' means m and covariances S (divided by n).

    Args:
        shrinkage: above 0, at most 1.
        pos, neg: features `[n, d]`.
    """
    means = [side.double().mean(dim=0) for side in (pos, neg)]
    # S = X'X with these rows.
    x = torch.cat(
        [(side - m) / (2 * len(side)) ** 0.5 for side, m in zip((pos, neg), means, strict=True)]
    )
    n, d = x.shape
    sphere = (shrinkage * x.square().sum() / d).clamp_min(1e-12)
    x = (1 - shrinkage) ** 0.5 * x
    difference = means[0] - means[1]
    # Woodbury, (X'X + s)^-1 v = (v - X' (XX' + s)^-1 X v) / s: the smaller matrix is solved.
    gram = x @ x.T if n < d else x.T @ x
    gram.diagonal().add_(sphere)
    if n < d:
        weight = (difference - x.T @ torch.linalg.solve(gram, x @ difference)) / sphere
    else:
        weight = torch.linalg.solve(gram, difference)
    bias = -weight @ (means[0] + means[1]) / 2
    return weight.to(pos), bias.to(pos)
