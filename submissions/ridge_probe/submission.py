"""A ridge probe: class-balanced least squares with a penalty, in closed form."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import linear_detector


def adapt(
    backbone: Backbone, pos: Tensor, neg: Tensor, lowest: float, highest: float, tried: int
) -> nn.Module:
    strengths = torch.logspace(lowest, highest, tried).tolist()
    return linear_detector(backbone, pos, neg, strengths, in_units_of_the_margin)


def in_units_of_the_margin(strength: float, pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor]:
    """The weight and bias of `ridge`, scaled so that the sides' mean scores are +1 and -1.

    A strong penalty makes all scores small; the loss they are chosen by would take that for doubt.
    """
    weight, bias = ridge(strength, pos, neg)
    margin = ((pos.mean(dim=0) - neg.mean(dim=0)) @ weight / 2).clamp_min(1e-12)
    return weight / margin, bias / margin


def ridge(strength: float, pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor]:
    """Weight `[d]` and bias that minimise

        sum_i s_i (w.x_i + b - y_i)^2 + penalty |w|^2,    y = +1 or -1,

    where s_i = n / (2 x images of its side), and penalty = strength x the mean squared length of
    the centred features, weighted alike: the same strength means the same for every backbone.

    Args:
        pos, neg: features `[n, d]`.
    """
    n = len(pos) + len(neg)
    mean = (pos.mean(dim=0) + neg.mean(dim=0)) / 2  # of x, both sides alike; that of y is 0
    # Rows times the square root of their weight make it plain least squares.
    roots = [pos.new_full((len(side),), n / (2 * len(side))).sqrt() for side in (pos, neg)]
    x = (torch.cat([pos, neg]) - mean).mul(torch.cat(roots)[:, None]).double()
    y = torch.cat([roots[0], -roots[1]]).double()
    penalty = (strength * x.square().sum() / n).clamp_min(1e-12)
    # (X'X + p)^-1 X' = X' (XX' + p)^-1: the smaller of the two matrices is solved.
    dual = len(x) < x.shape[1]
    gram = x @ x.T if dual else x.T @ x
    gram.diagonal().add_(penalty)
    weight = x.T @ torch.linalg.solve(gram, y) if dual else torch.linalg.solve(gram, x.T @ y)
    weight = weight.to(mean)
    return weight, -weight @ mean
