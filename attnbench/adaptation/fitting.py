"""Training on the class-balanced logistic loss, with Adam on batches or L-BFGS on all images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from attnbench.adaptation.features import GlobalAveragePool, batches, channels_last

# L-BFGS stops after a step that reduces the loss by less than this fraction.
_MIN_RELATIVE_DECREASE = 1e-4

# Larger batches take less time per epoch but learn less in it (docs/performance.md).
_BATCH_SIZE = 16


def balanced_loss(pos_scores: Tensor, neg_scores: Tensor) -> Tensor:
    """Return the class-balanced logistic loss.

        (mean softplus(-score) over positives + mean softplus(score) over negatives) / 2

    Both classes have the same weight, however many images they have. Scores of zero, which is
    chance, give log 2 = 0.69.

    Args:
        pos_scores, neg_scores: scores `[n]` of the positives and of the negatives.

    Returns:
        A scalar.
    """
    return (softplus(-pos_scores).mean() + softplus(neg_scores).mean()) / 2


def separation(pos_scores: Tensor, neg_scores: Tensor) -> Tensor:
    """Return d_a, the sensitivity of scores over all thresholds, from their means and variances.

        d_a = (mean of positives - mean of negatives) / sqrt((variance of positives + of negatives) / 2)

    This is d' for two normal distributions with different variances: Simpson, A. J., & Fitter,
    M. J. (1973). What is the best index of detectability? Psychological Bulletin, 80, 481-488.
    No threshold changes it, unlike `balanced_loss`. With few images it has fewer ties between
    candidates than the area under the ROC curve.

    Args:
        pos_scores, neg_scores: scores `[n]` of the positives and of the negatives, one or more.

    Returns:
        A scalar. It is zero if neither class has any variance, as with one image of each.
    """
    spread = ((pos_scores.var(correction=0) + neg_scores.var(correction=0)) / 2).sqrt()
    return (pos_scores.mean() - neg_scores.mean()) / spread.where(spread > 0, torch.inf)


def trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a module that require gradients."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def fit_adam(
    scorer: nn.Module,
    pos: Tensor,
    neg: Tensor,
    *,
    learning_rate: float,
    epochs: int,
    stop_loss: float = 0.0,
    loss: Callable[[Tensor, Tensor], Tensor] = balanced_loss,
) -> None:
    """Minimise a loss with Adam, in batches of 16 images from both classes.

    Use it for scores that are not linear in the trained parameters. The order of the images is
    drawn from torch's global random generator.

    Args:
        scorer: maps features `[k, ...]` to scores `[k]`, or to `[k, t]`: the loss is then the mean
            over the columns. Its parameters that require gradients are trained in place.
        pos, neg: features `[n, ...]` of the positives and of the negatives.
        learning_rate: of Adam.
        epochs: the largest number of passes over the images.
        stop_loss: training stops after an epoch with a mean loss below this.
        loss: of the scores of positives and of negatives in a batch. For `balanced_loss`, chance is
            0.69.
    """
    optimiser = torch.optim.Adam(trainable_parameters(scorer), learning_rate)
    steps = -(-(len(pos) + len(neg)) // _BATCH_SIZE)
    for _ in range(epochs):
        total = torch.zeros((), device=pos.device)
        epoch = zip(_shuffled_batches(pos, steps), _shuffled_batches(neg, steps), strict=True)
        for pos_rows, neg_rows in epoch:
            optimiser.zero_grad()
            scores = scorer(channels_last(torch.cat([pos[pos_rows], neg[neg_rows]])))
            batch_loss = loss(scores[: len(pos_rows)], scores[len(pos_rows) :])
            torch.autograd.backward(batch_loss)
            optimiser.step()
            total += batch_loss.detach()
        if total < steps * stop_loss:
            break


def _shuffled_batches(features: Tensor, steps: int) -> Iterator[Tensor]:
    """Yield the row numbers of one class in random order, divided into `steps` batches.

    No batch is empty. If there are fewer rows than steps, the order is repeated.
    """
    order = torch.randperm(len(features))
    order = order.repeat(max(1, -(-steps // len(features))))[: max(steps, len(features))]
    yield from order.to(features.device).tensor_split(steps)


def fit_lbfgs(
    scorer: nn.Module,
    pos: Tensor,
    neg: Tensor,
    *,
    steps: int,
    penalty: float = 0.0,
    anchor: Sequence[Tensor] | None = None,
) -> None:
    """Minimise `balanced_loss` with L-BFGS, in steps on all images.

    Use it for scores that are linear in the trained parameters, such as those of a last layer. The
    loss is then convex or nearly so, and no step size has to be chosen. Features are small enough
    to go through those of all images at each step.

    With a penalty it minimises

        balanced_loss + penalty / 2 x |change of the parameters|^2 x mean |features|^2

    where biases do not count as parameters and features are pooled over positions. The last factor
    makes the penalty independent of the unit of the features.

    Args:
        scorer: maps features `[k, ...]` to scores `[k]`. Its parameters that require gradients are
            trained in place.
        pos, neg: features `[n, ...]` of the positives and of the negatives.
        steps: the largest number of steps. Training ends earlier after a step that reduces the loss
            by less than 0.01 %.
        penalty: the strength of the penalty.
        anchor: the values from which changes are measured, one tensor for each of
            `trainable_parameters(scorer)`. By default these are the initial values.
    """
    trained = trainable_parameters(scorer)
    unpenalised = {
        id(parameter) for name, parameter in scorer.named_parameters() if name.endswith("bias")
    }
    origin = [parameter.detach().clone() for parameter in trained] if anchor is None else anchor
    images = channels_last(torch.cat([pos, neg]))
    counts = torch.tensor([len(pos), len(neg)], device=images.device)
    signs = torch.tensor([-1.0, 1.0], device=images.device).repeat_interleave(counts)
    weights = (0.5 / counts).repeat_interleave(counts)
    cost = penalty * GlobalAveragePool()(images).flatten(1).square().sum(dim=1).mean()
    optimiser = torch.optim.LBFGS(
        trained,
        max_iter=1,
        max_eval=25,  # evaluations in a line search, which takes no step at all if it runs out
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def evaluate() -> Tensor:
        """Return the penalised loss of all images and set the gradients."""
        optimiser.zero_grad()
        total = torch.zeros((), device=images.device)
        for rows in batches(images):
            loss = weights[rows] @ softplus(signs[rows] * scorer(images[rows]))
            torch.autograd.backward(loss)
            total += loss.detach()
        for parameter, initial in zip(trained, origin, strict=True):
            if id(parameter) not in unpenalised:
                change = parameter.detach() - initial
                assert parameter.grad is not None
                parameter.grad += cost * change
                total += cost / 2 * change.square().sum()
        return total

    evaluated_at, loss = torch.empty(0), torch.zeros(())

    def closure() -> Tensor:
        # Each step begins by evaluating the point at which the line search before it ended, which
        # has just been evaluated. Its gradients are still set, so one pass over the images is
        # saved.
        nonlocal evaluated_at, loss
        point = nn.utils.parameters_to_vector(trained).detach()
        if len(evaluated_at) != len(point) or not torch.equal(evaluated_at, point):
            evaluated_at, loss = point, evaluate()
        return loss

    previous = math.inf
    for _ in range(steps):
        # `step` returns the loss at the beginning of the step.
        current = optimiser.step(closure).item()  # type: ignore[no-untyped-call]
        if current > (1 - _MIN_RELATIVE_DECREASE) * previous:
            break
        previous = current
