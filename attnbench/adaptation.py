"""What submissions share: log-odds of a class, frozen features computed once, a class-balanced fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

# How much of a tensor goes through a network at once. On a CPU what fits its caches is quickest (16
# images of 224 pixels take 0.7 of the time that 64 do), a GPU wants to be filled.
_BYTES_AT_ONCE = {"cpu": 10 << 20, "cuda": 256 << 20}


def batches(rows: Tensor) -> Iterator[slice]:
    """Slices that cut the first dimension of `rows` into pieces that suit its device."""
    size = max(1, rows[:1].numel() * rows.element_size())
    step = max(1, _BYTES_AT_ONCE.get(rows.device.type, 10 << 20) // size)
    for start in range(0, len(rows), step):
        yield slice(start, start + step)


def channels_last(images: Tensor) -> Tensor:
    """The same images `[n, c, h, w]`, laid out as a CPU's convolutions want them (2 x as fast)."""
    return images.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def frozen_outputs(network: nn.Module, images: Tensor) -> Tensor:
    """What a network that is not trained makes of images: once, in batches, without gradients.

    Args:
        network: in eval mode.
        images: `[n, 3, h, w]`.

    Returns:
        Its outputs, `[n, ...]`.
    """
    return torch.cat([network(channels_last(images[rows])) for rows in batches(images)])


def log_odds(logits: Tensor, target: int) -> Tensor:
    """A classifier's log-odds of one class against all others together.

    log p / (1 - p) of the soft-max = logit of the target - logsumexp of the other logits; above 0
    the target is more likely than everything else together.

    Args:
        logits: `[n, classes]`, at least two classes.
        target: index of the class.

    Returns:
        `[n]`.
    """
    others = torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)
    return logits[:, target] - torch.logsumexp(others, dim=1)


def fit(
    score: Callable[[Tensor], Tensor],
    parameters: Iterable[nn.Parameter],
    pos: Tensor,
    neg: Tensor,
    *,
    learning_rate: float,
    epochs: int,
    enough: float = 0.0,
    after_step: Callable[[], object] = lambda: None,
) -> None:
    """Train a detector so that positives score above 0 and negatives below, both sides alike.

    Minimises mean softplus(-score) over positives + mean softplus(score) over negatives, halved: the
    logistic loss with class weights that make both sides count the same. Adam, a step an epoch with
    the gradient of all images, which is gathered batch by batch.

    Args:
        score: features `[k, ...]` to scores `[k]`, with gradients.
        parameters: what is trained, in place.
        pos, neg: features of the positives and the negatives, `[n, ...]`.
        learning_rate: Adam's.
        epochs: how many steps at most.
        enough: no further step where the loss is below this (chance is log 2 = 0.69).
        after_step: called after each, for instance to clip.
    """
    optimiser = torch.optim.Adam(parameters, learning_rate)
    for _ in range(epochs):
        optimiser.zero_grad()
        total = torch.zeros((), device=pos.device)
        for side, sign in ((pos, -1.0), (neg, 1.0)):
            for rows in batches(side):
                loss = softplus(sign * score(side[rows])).sum() / (2 * len(side))
                torch.autograd.backward(loss)
                total += loss.detach()
        if total < enough:
            break
        optimiser.step()
        with torch.no_grad():
            after_step()
