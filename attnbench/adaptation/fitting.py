"""Training a detector so that both sides count alike: by steps on a few images, or on all at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from attnbench.adaptation.features import Pooled, batches, channels_last

# A step of L-BFGS that takes less than this share off the loss is the last.
_ENDED = 1e-4

# More images a step are quicker to go through but get less far: see docs/performance.md.
_IMAGES_A_STEP = 16


def balanced_loss(pos_scores: Tensor, neg_scores: Tensor) -> Tensor:
    """The logistic loss with class weights that make both sides count the same; chance is log 2.

    (mean softplus(-score) over positives + mean softplus(score) over negatives) / 2.

    Args:
        pos_scores, neg_scores: `[n]`, of positives and of negatives.
    """
    return (softplus(-pos_scores).mean() + softplus(neg_scores).mean()) / 2


def learned(score: nn.Module) -> list[nn.Parameter]:
    """The parameters of a module that ask for gradients."""
    return [each for each in score.parameters() if each.requires_grad]


def fit(
    score: nn.Module,
    pos: Tensor,
    neg: Tensor,
    *,
    learning_rate: float,
    epochs: int,
    enough: float = 0.0,
) -> None:
    """Train a detector with Adam on `balanced_loss`, in steps of 16 images drawn from both sides.

    For what is not linear in what it learns. Takes what there is of the random generator's state.

    Args:
        score: features `[k, ...]` to scores `[k]`; what asks for gradients is trained, in place.
        pos, neg: features of the positives and the negatives, `[n, ...]`.
        learning_rate: Adam's.
        epochs: how often each image is seen at most.
        enough: no further epoch where the mean loss of one is below this (chance is log 2 = 0.69).
    """
    optimiser = torch.optim.Adam(learned(score), learning_rate)
    steps = -(-(len(pos) + len(neg)) // _IMAGES_A_STEP)
    for _ in range(epochs):
        total = torch.zeros((), device=pos.device)
        for some_pos, some_neg in zip(_shuffled(pos, steps), _shuffled(neg, steps), strict=True):
            optimiser.zero_grad()
            scores = score(channels_last(torch.cat([pos[some_pos], neg[some_neg]])))
            loss = balanced_loss(scores[: len(some_pos)], scores[len(some_pos) :])
            torch.autograd.backward(loss)
            optimiser.step()
            total += loss.detach()
        if total < steps * enough:
            break


def _shuffled(side: Tensor, steps: int) -> Iterator[Tensor]:
    """The rows of a side in random order, in as many pieces as there are steps.

    None is empty: where there are fewer rows than steps, they come again and again.
    """
    order = torch.randperm(len(side))
    order = order.repeat(max(1, -(-steps // len(side))))[: max(steps, len(side))]
    yield from order.to(side.device).tensor_split(steps)


def solve(
    score: nn.Module,
    pos: Tensor,
    neg: Tensor,
    *,
    steps: int,
    penalty: float = 0.0,
    around: Sequence[Tensor] | None = None,
) -> None:
    """Minimise a detector's `balanced_loss` with L-BFGS, each step on all images.

    For what is linear in what it learns, such as a last layer: the loss is then (nearly) convex, no
    step size is needed, and an image's features are small enough to look at all in each step.

    Args:
        score: features `[k, ...]` to scores `[k]`; what asks for gradients is trained, in place.
        pos, neg: features of the positives and the negatives, `[n, ...]`.
        steps: how many at most; none follows when the loss hardly falls any more.
        penalty: what a change of the parameters costs, biases left out: penalty / 2 x its squared
            length x the mean squared length of the (pooled) features, to be blind to their unit.
        around: what a change is from, for each of `learned(score)`; if None, where they begin.
    """
    trained = learned(score)
    free = {id(each) for name, each in score.named_parameters() if name.endswith("bias")}
    origin = [each.detach().clone() for each in trained] if around is None else around
    images = channels_last(torch.cat([pos, neg]))
    counts = torch.tensor([len(pos), len(neg)], device=images.device)
    signs = torch.tensor([-1.0, 1.0], device=images.device).repeat_interleave(counts)
    shares = (0.5 / counts).repeat_interleave(counts)
    cost = penalty * Pooled()(images).flatten(1).square().sum(dim=1).mean()
    optimiser = torch.optim.LBFGS(
        trained,
        max_iter=1,
        max_eval=25,  # of a line search; it gives up without a step where there are too few
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def look() -> Tensor:
        optimiser.zero_grad()
        total = torch.zeros((), device=images.device)
        for rows in batches(images):
            loss = shares[rows] @ softplus(signs[rows] * score(images[rows]))
            torch.autograd.backward(loss)
            total += loss.detach()
        for each, first in zip(trained, origin, strict=True):
            if id(each) not in free:
                moved = each.detach() - first
                assert each.grad is not None
                each.grad += cost * moved
                total += cost / 2 * moved.square().sum()
        return total

    place, loss = torch.empty(0), torch.zeros(())

    def loss_and_gradient() -> Tensor:
        # A step asks again for what the last line search ended with: that gradient is still there.
        nonlocal place, loss
        now = nn.utils.parameters_to_vector(trained).detach()
        if len(place) != len(now) or not torch.equal(place, now):
            place, loss = now, look()
        return loss

    before = math.inf
    for _ in range(steps):
        # Of where the step begins.
        begun = optimiser.step(loss_and_gradient).item()  # type: ignore[no-untyped-call]
        if begun > (1 - _ENDED) * before:
            break
        before = begun
