"""Choosing a setting by adaptation images that were held out."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from attnbench.adaptation.bfloat16 import layers_of
from attnbench.adaptation.detectors import LinearDetector
from attnbench.adaptation.features import encoder, quick_outputs
from attnbench.adaptation.fitting import balanced_loss, learned, solve
from attnbench.backbones.backbone import Backbone

Setting = TypeVar("Setting")


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


def solve_penalised(
    score: nn.Module,
    pos: Tensor,
    neg: Tensor,
    *,
    steps: int,
    penalties: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4),
) -> None:
    """`solve`, with the penalty among these that does best on a held-out quarter of the images.

    Along the path of solutions: the strongest penalty first, each weaker one from where the one before
    it ended; and from the best of them to the solution for all images.
    Where one side has a single image, and none could be held out, the strongest penalty is taken.

    A linear layer that sees fewer images than an image has features is solved for in the directions
    that these images span: penalised, it changes in no other (the representer theorem).
    """
    first, *behind = layers_of(score)
    count = len(pos) + len(neg)
    if isinstance(first, nn.Linear) and pos.dim() == 2 and count < first.in_features:
        with _in_directions_of(torch.cat([pos, neg]), first) as (directions, twin):
            sides = pos @ directions, neg @ directions
            _solve_penalised(nn.Sequential(twin, *behind), *sides, steps, penalties)
    else:
        _solve_penalised(score, pos, neg, steps, penalties)


@contextmanager
def _in_directions_of(images: Tensor, layer: nn.Linear) -> Iterator[tuple[Tensor, nn.Linear]]:
    """Orthonormal directions `[d, n]` that span images `[n, d]`, and a twin of a layer in them.

    The twin says of `images @ directions` what the layer says of the images. What it learns until the
    end is then given to the layer.
    """
    directions, _ = torch.linalg.qr(images.T)
    twin = copy.deepcopy(layer)
    twin.in_features = len(images)
    before = layer.weight.detach() @ directions
    twin.weight = nn.Parameter(before.clone(), layer.weight.requires_grad)
    yield directions, twin
    with torch.no_grad():
        layer.weight += (twin.weight - before) @ directions.T
        if layer.bias is not None:
            layer.bias.copy_(twin.bias)


def _solve_penalised(
    score: nn.Module, pos: Tensor, neg: Tensor, steps: int, penalties: Sequence[float]
) -> None:
    around = [each.detach().clone() for each in learned(score)]
    strongest_first = sorted(penalties, reverse=True)
    chosen, state = strongest_first[0], copy.deepcopy(score.state_dict())
    if min(len(pos), len(neg)) >= 2:
        (pos_kept, pos_held), (neg_kept, neg_held) = held_out(pos), held_out(neg)
        least = math.inf
        for penalty in strongest_first:
            solve(score, pos_kept, neg_kept, steps=steps, penalty=penalty, around=around)
            with torch.no_grad():
                loss = balanced_loss(score(pos_held), score(neg_held)).item()
            if loss < least:
                least, chosen, state = loss, penalty, copy.deepcopy(score.state_dict())
    score.load_state_dict(state)
    solve(score, pos, neg, steps=steps, penalty=chosen, around=around)


def linear_detector(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    settings: Iterable[Setting],
    solution: Callable[[Setting, Tensor, Tensor], tuple[Tensor, Tensor]],
) -> LinearDetector:
    """A linear read-out of the frozen features before the head, its setting chosen by `best`.

    Args:
        pos, neg: images `[n, 3, h, w]`.
        settings: what to choose from, such as strengths of a penalty.
        solution: a setting and both sides' features `[n, d]` to weight `[d]` and bias.
    """
    images_to_features = encoder(backbone)
    sides = quick_outputs(images_to_features, pos), quick_outputs(images_to_features, neg)

    def scorer(setting: Setting, pos: Tensor, neg: Tensor) -> Callable[[Tensor], Tensor]:
        weight, bias = solution(setting, pos, neg)
        return lambda features: features @ weight + bias

    chosen = best(settings, scorer, *sides)
    return LinearDetector(images_to_features, *solution(chosen, *sides))
