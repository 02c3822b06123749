"""Choosing hyperparameters by the loss on adaptation images that are held out for validation."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from attnbench.adaptation.detectors import LinearDetector
from attnbench.adaptation.features import Precision, frozen_features, pooled_encoder
from attnbench.adaptation.fitting import balanced_loss, fit_lbfgs, trainable_parameters
from attnbench.adaptation.layers import flatten_sequential
from attnbench.backbones.backbone import Backbone

Candidate = TypeVar("Candidate")


def validation_split(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Split the images or features of one class into training and validation rows.

    Every fourth row is for validation, or one of two or three rows.

    Args:
        rows: `[n, ...]`.

    Returns:
        Training rows, about three quarters, and validation rows, at least one of each.

    Raises:
        ValueError: for fewer than two rows.
    """
    if len(rows) < 2:
        raise ValueError(
            f"a validation split needs at least two images of each class, but one has {len(rows)}"
        )
    is_validation = torch.arange(len(rows), device=rows.device) % 4 == min(3, len(rows) - 1)
    return rows[~is_validation], rows[is_validation]


def select_by_validation(
    candidates: Iterable[Candidate],
    fit: Callable[[Candidate, Tensor, Tensor], Callable[[Tensor], Tensor]],
    pos: Tensor,
    neg: Tensor,
) -> Candidate:
    """Return the candidate with the lowest `balanced_loss` on validation rows.

    Candidates are fitted to three quarters of the adaptation images and compared on the others; see
    `validation_split`. Test images have no part in it. The first of equally good ones is returned.

    Args:
        candidates: at least one hyperparameter or combination of hyperparameters.
        fit: takes a candidate, positives and negatives, and returns a function from rows to scores.
        pos, neg: images or features `[n, ...]` of the positives and of the negatives.

    Raises:
        ValueError: if a class has fewer than two rows, or there are no candidates.
    """
    (pos_train, pos_validation), (neg_train, neg_validation) = map(validation_split, (pos, neg))

    def validation_loss(candidate: Candidate) -> float:
        score = fit(candidate, pos_train, neg_train)
        with torch.no_grad():
            return balanced_loss(score(pos_validation), score(neg_validation)).item()

    return min(candidates, key=validation_loss)


def fit_lbfgs_cv(
    scorer: nn.Module,
    pos: Tensor,
    neg: Tensor,
    *,
    steps: int,
    penalties: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4),
) -> None:
    """Train with `fit_lbfgs` and the penalty that does best on a validation split.

    The penalties form a regularisation path: the strongest one comes first, and each weaker one
    starts from the solution of the one before. The best solution is where the final training on all
    images starts. If a class has a single image, there is no split and the strongest penalty is used.

    If the first layer is linear and there are fewer images than features, that layer is trained in
    the subspace that the images span. With a penalty it does not change in any other direction (the
    representer theorem). So the solution is the same, and far fewer weights are trained.

    Args:
        scorer, pos, neg, steps: see `fit_lbfgs`.
        penalties: the penalties to choose from.
    """
    first, *others = flatten_sequential(scorer)
    count = len(pos) + len(neg)
    if isinstance(first, nn.Linear) and pos.dim() == 2 and count < first.in_features:
        with _projected_layer(first, torch.cat([pos, neg])) as (basis, projected):
            in_subspace = nn.Sequential(projected, *others)
            _fit_along_path(in_subspace, pos @ basis, neg @ basis, steps, penalties)
    else:
        _fit_along_path(scorer, pos, neg, steps, penalties)


@contextmanager
def _projected_layer(layer: nn.Linear, images: Tensor) -> Iterator[tuple[Tensor, nn.Linear]]:
    """Yield an orthonormal basis of the span of the images, and the layer in coordinates of it.

    When the context ends, the changes of the projected layer are added to `layer`.

    Args:
        layer: from d features.
        images: their features `[n, d]`.

    Yields:
        The basis `[d, n]`, and a layer that maps `images @ basis` to what `layer` makes of
        `images`.
    """
    basis, _ = torch.linalg.qr(images.T)
    projected = copy.deepcopy(layer)
    projected.in_features = len(images)
    initial = layer.weight.detach() @ basis
    projected.weight = nn.Parameter(initial.clone(), layer.weight.requires_grad)
    yield basis, projected
    with torch.no_grad():
        layer.weight += (projected.weight - initial) @ basis.T
        if layer.bias is not None:
            layer.bias.copy_(projected.bias)


def _fit_along_path(
    scorer: nn.Module, pos: Tensor, neg: Tensor, steps: int, penalties: Sequence[float]
) -> None:
    # Every penalty is on the change from the initial parameters, wherever its training starts.
    anchor = [parameter.detach().clone() for parameter in trainable_parameters(scorer)]
    strongest_first = sorted(penalties, reverse=True)
    best_penalty, best_state = strongest_first[0], copy.deepcopy(scorer.state_dict())
    if min(len(pos), len(neg)) >= 2:
        (pos_train, pos_validation), (neg_train, neg_validation) = map(validation_split, (pos, neg))
        lowest = math.inf
        for penalty in strongest_first:
            fit_lbfgs(scorer, pos_train, neg_train, steps=steps, penalty=penalty, anchor=anchor)
            with torch.no_grad():
                loss = balanced_loss(scorer(pos_validation), scorer(neg_validation)).item()
            if loss < lowest:
                lowest, best_penalty = loss, penalty
                best_state = copy.deepcopy(scorer.state_dict())
    scorer.load_state_dict(best_state)
    fit_lbfgs(scorer, pos, neg, steps=steps, penalty=best_penalty, anchor=anchor)


def fit_linear_detector(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    candidates: Iterable[Candidate],
    solve: Callable[[Candidate, Tensor, Tensor], tuple[Tensor, Tensor]],
    *,
    precision: Precision = "float32",
) -> LinearDetector:
    """Fit a linear read-out of the pooled features in front of the backbone's head.

    Its hyperparameter is chosen by `select_by_validation`.

    Args:
        backbone: stays frozen; see `pooled_encoder`.
        pos, neg: images `[n, 3, h, w]`.
        candidates: hyperparameters to choose from, such as strengths of a penalty.
        solve: takes a candidate and the features `[n, d]` of positives and negatives, and returns a
            weight vector `[d]` and a scalar bias.
        precision: of the features; see `frozen_features`.

    Raises:
        ValueError: if there are fewer than two positives or negatives, or for an unknown precision.
    """
    encoder = pooled_encoder(backbone)
    features = (
        frozen_features(encoder, pos, precision=precision),
        frozen_features(encoder, neg, precision=precision),
    )

    def fit(candidate: Candidate, pos: Tensor, neg: Tensor) -> Callable[[Tensor], Tensor]:
        weight, bias = solve(candidate, pos, neg)
        return lambda rows: rows @ weight + bias

    best = select_by_validation(candidates, fit, *features)
    return LinearDetector(encoder, *solve(best, *features))
