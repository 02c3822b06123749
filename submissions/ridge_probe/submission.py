"""A ridge probe (Hoerl & Kennard 1970): penalised least squares on frozen features, in closed form.

The regression is on +1 for positives and -1 for negatives, with equal weights for both classes.
"""

import torch
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
    strengths = torch.logspace(lowest, highest, candidates).tolist()
    return fit_linear_detector(backbone, pos, neg, strengths, scaled_ridge, precision=precision)


def scaled_ridge(strength: float, pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor]:
    """Return the solution of `ridge`, scaled to mean scores of +1 and -1 for the classes.

    A strong penalty shrinks all scores. The logistic loss that compares penalties would take small
    scores for uncertainty.
    """
    weight, bias = ridge(strength, pos, neg)
    margin = ((pos.mean(dim=0) - neg.mean(dim=0)) @ weight / 2).clamp_min(1e-12)
    return weight / margin, bias / margin


def ridge(strength: float, pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight vector w `[d]` and the bias b that minimise

        sum_i s_i (w.x_i + b - y_i)^2 + penalty |w|^2,    y = +1 or -1,

    where s_i = n / (2 x images of its class), and penalty = strength x the weighted mean squared
    length of the centred features. So the same strength means the same for every backbone.

    Args:
        strength: of the penalty.
        pos, neg: features `[n, d]`.
    """
    n = len(pos) + len(neg)
    # The class-balanced mean of x. That of y is 0.
    mean = (pos.mean(dim=0) + neg.mean(dim=0)) / 2
    # Rows times the square roots of their weights turn this into unweighted least squares.
    roots = [pos.new_full((len(rows),), n / (2 * len(rows))).sqrt() for rows in (pos, neg)]
    x = (torch.cat([pos, neg]) - mean).mul(torch.cat(roots)[:, None]).double()
    y = torch.cat([roots[0], -roots[1]]).double()
    penalty = (strength * x.square().sum() / n).clamp_min(1e-12)
    # The smaller of two matrices is solved: (X'X + p)^-1 X' = X' (XX' + p)^-1.
    dual = len(x) < x.shape[1]
    gram = x @ x.T if dual else x.T @ x
    gram.diagonal().add_(penalty)
    weight = x.T @ torch.linalg.solve(gram, y) if dual else torch.linalg.solve(gram, x.T @ y)
    weight = weight.to(mean)
    return weight, -weight @ mean
