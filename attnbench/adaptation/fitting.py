"""Training a detector so that both sides count alike, and choosing a setting by held-out images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from attnbench.adaptation.features import batches

Setting = TypeVar("Setting")


def balanced_loss(pos_scores: Tensor, neg_scores: Tensor) -> Tensor:
    """The logistic loss with class weights that make both sides count the same; chance is log 2.

    (mean softplus(-score) over positives + mean softplus(score) over negatives) / 2.

    Args:
        pos_scores, neg_scores: `[n]`, of positives and of negatives.
    """
    return (softplus(-pos_scores).mean() + softplus(neg_scores).mean()) / 2


def fit(
    score: Callable[[Tensor], Tensor],
    parameters: Iterable[nn.Parameter],
    pos: Tensor,
    neg: Tensor,
    *,
    learning_rate: float,
    epochs: int,
    enough: float = 0.0,
    target_weight: float = 0.5,
    after_step: Callable[[], object] = lambda: None,
) -> None:
    """Train a detector so that positives score above 0 and negatives below.

    Minimises `balanced_loss`; with another `target_weight` w, w mean softplus(-score) over positives
    + (1 - w) mean softplus(score) over negatives. Adam, a step an epoch with the gradient of all
    images, which is gathered batch by batch.

    Args:
        score: features `[k, ...]` to scores `[k]`, with gradients.
        parameters: what is trained, in place.
        pos, neg: features of the positives and the negatives, `[n, ...]`.
        learning_rate: Adam's.
        epochs: how many steps at most.
        enough: no further step where the loss is below this (chance is log 2 = 0.69).
        target_weight: how much the positives as a whole count, against the negatives.
        after_step: called after each, for instance to clip.
    """
    optimiser = torch.optim.Adam(parameters, learning_rate)
    for _ in range(epochs):
        optimiser.zero_grad()
        total = torch.zeros((), device=pos.device)
        for side, sign, weight in ((pos, -1.0, target_weight), (neg, 1.0, 1 - target_weight)):
            for rows in batches(side):
                loss = weight * softplus(sign * score(side[rows])).sum() / len(side)
                torch.autograd.backward(loss)
                total += loss.detach()
        if total < enough:
            break
        optimiser.step()
        with torch.no_grad():
            after_step()


def held_out(rows: Tensor) -> tuple[Tensor, Tensor]:
    """One side's images or features, cut into three quarters to adapt on and a quarter to choose by.

    One of two or three. Raises ValueError for fewer than two.
    """
    if len(rows) < 2:
        raise ValueError("to hold some images out there have to be two on each side")
    last = torch.arange(len(rows), device=rows.device) % 4 == min(3, len(rows) - 1)
    return rows[~last], rows[last]


def best(
    settings: Iterable[Setting],
    scorer: Callable[[Setting, Tensor, Tensor], Callable[[Tensor], Tensor]],
    pos: Tensor,
    neg: Tensor,
) -> Setting:
    """The setting with the least `balanced_loss` on a held-out quarter of the adaptation images.

    The first of those that are equally good. Test images have no part in it.

    Args:
        settings: what to choose from, at least one.
        scorer: adapts with a setting on positives and negatives, and returns what gives scores.
        pos, neg: images or features, `[n, ...]`.
    """
    (pos_kept, pos_held), (neg_kept, neg_held) = held_out(pos), held_out(neg)

    def loss(setting: Setting) -> float:
        score = scorer(setting, pos_kept, neg_kept)
        with torch.no_grad():
            return balanced_loss(score(pos_held), score(neg_held)).item()

    return min(settings, key=loss)
