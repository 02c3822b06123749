"""Training few parameters in few looks at the images, by each image's own gradient."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor, nn
from torch.func import functional_call

from attnbench.adaptation.bfloat16 import pays_in_bfloat16, with_quick_convolutions
from attnbench.adaptation.features import batches, channels_last
from attnbench.adaptation.large import with_large_layers

Floats = NDArray[np.float64]

# What a score's change by one costs at first, relative to the loss; then by how much less or more.
_DAMPING, _LESS, _MORE = 1e-3, 0.1, 10.0

# Images of a side that are looked at to tell whether a step was one, where there are more than twice
# as many; and by how many standard errors they have to tell it.
_FEW, _SURE = 16, 3.0

# Of a linear problem, which need not be solved to the last digit: the next look corrects it.
_ITERATIONS = 50


def gauss_newton(
    score: nn.Module,
    pos: Tensor,
    neg: Tensor,
    *,
    steps: int,
    enough: float = 0.0,
    target_weight: float = 0.5,
    nonnegative: Collection[nn.Parameter] = (),
) -> None:
    """Minimise the class-balanced logistic loss by damped Gauss-Newton steps (Levenberg, Marquardt).

    A look at all images gives the scores s and, as each image is given a copy of the parameters,
    the gradient J of each score in one backward pass. The loss of the linear s + J d, plus damping
    that keeps d small, is convex and costs next to nothing to minimise. So a look buys a whole
    minimisation, where a gradient step buys one step. Meant for some thousands of parameters at
    most: J has images x parameters numbers.

    What learns nothing is looked through in bfloat16 where that pays (see `pays_in_bfloat16`).

    The loss is w mean softplus(-score) over positives + (1 - w) mean softplus(score) over negatives.

    Args:
        score: features `[k, ...]` to scores `[k]`; what asks for gradients is trained, in place. Its
            layers have to take parameters with a first dimension for images, as `Gains` do.
        pos, neg: features of the positives and the negatives, `[n, ...]`.
        steps: how many looks to learn from at most.
        enough: no further step where the loss is below this.
        target_weight: w, how much the positives as a whole count against the negatives.
        nonnegative: the parameters that are kept at 0 or above.
    """
    if pays_in_bfloat16(score, pos.device):
        score = with_quick_convolutions(score)
    score = with_large_layers(score)
    parameters = {name: each for name, each in score.named_parameters() if each.requires_grad}
    problem = _Problem(score, parameters, (pos, neg))
    loss = _Loss.of(len(pos), len(neg), target_weight)
    lowest = _flat([torch.full_like(p, 0.0 if _within(p, nonnegative) else -torch.inf)
                    for p in parameters.values()])  # fmt: skip
    start = _flat(list(parameters.values()))
    at = problem.look(start)
    best, damping = at.values, _DAMPING
    for left in reversed(range(steps)):
        if loss.value(at.scores) < enough:
            break
        values = _minimum(at, loss, damping, lowest)
        promised = loss.value(at.as_if_linear(values))
        if not left or promised < enough:
            # Perhaps the last step: gradients, the dearer part of a look, would be for nothing.
            limit = enough if left else loss.value(at.scores)
            if problem.is_below(limit, values, at, loss):
                best = values
                break
            if not left:
                break
        expected = loss.value(at.scores) - promised
        there = problem.look(values)
        gained = loss.value(at.scores) - loss.value(there.scores)
        if gained > 0:
            at, best = there, values
        if gained > 0.75 * expected:
            damping *= _LESS
        elif gained < 0.25 * expected:
            damping *= _MORE
    with torch.no_grad():
        for each, found in zip(
            parameters.values(), _shaped(best, parameters.values()), strict=True
        ):
            each.copy_(found)


@dataclass(frozen=True)
class _Loss:
    """The weighted logistic loss of scores `[n]`, positives first.

    Attributes:
        signs: `[n]`, 1 for positives and -1 for negatives.
        weights: `[n]`, of each image; they sum to 1.
    """

    signs: Floats
    weights: Floats

    @classmethod
    def of(cls, pos: int, neg: int, target_weight: float) -> _Loss:
        counts = [pos, neg]
        return cls(
            np.repeat([1.0, -1.0], counts),
            np.repeat([target_weight / pos, (1 - target_weight) / neg], counts),
        )

    def value(self, scores: Floats) -> float:
        return float(self.weights @ np.logaddexp(0, -self.signs * scores))

    def of_each(self, scores: Floats, rows: NDArray[np.int64]) -> Floats:
        """What some of the images, whose scores these are, add to it."""
        parts: Floats = self.weights[rows] * np.logaddexp(0, -self.signs[rows] * scores)
        return parts

    def gradient(self, scores: Floats) -> Floats:
        """With respect to each score, `[n]`."""
        gradient: Floats = -self.weights * self.signs * expit(-self.signs * scores)
        return gradient


@dataclass(frozen=True)
class _Look:
    """What all images say of the parameters' values.

    Attributes:
        values: `[p]`.
        scores: `[n]`.
        jacobian: of the scores, `[n, p]`.
        scale: `[p]`, how much a change of one in all parameters of the same tensor changes a
            score, squared, in the mean over images: it makes damping blind to units.
    """

    values: Floats
    scores: Floats
    jacobian: Floats
    scale: Floats

    def as_if_linear(self, values: Floats) -> Floats:
        """The scores `[n]` at other values `[p]` by this look alone."""
        scores: Floats = self.scores + self.jacobian @ (values - self.values)
        return scores


@dataclass(frozen=True)
class _Problem:
    """What is trained, on what."""

    score: nn.Module
    parameters: dict[str, nn.Parameter]
    images: tuple[Tensor, Tensor]

    def look(self, values: Floats) -> _Look:
        """What all images say of these values `[p]` of the parameters."""
        tensors = self._named(values)
        scores, jacobians = [], []
        for some in _batches(self.images):
            own = {
                name: each.expand(len(some), *each.shape).clone().requires_grad_()
                for name, each in tensors.items()
            }
            said = functional_call(self.score, own, (some,))
            gradients = torch.autograd.grad(said.sum(), list(own.values()))
            scores.append(said.detach())
            jacobians.append(torch.cat([each.reshape(len(some), -1) for each in gradients], dim=1))
        jacobian = torch.cat(jacobians).double().cpu().numpy()
        squared = np.square(jacobian).mean(axis=0)
        sizes = [each.numel() for each in self.parameters.values()]
        sums = [part.sum() for part in np.split(squared, np.cumsum(sizes)[:-1])]
        found = torch.cat(scores).double().cpu().numpy()
        return _Look(values, found, jacobian, np.repeat(sums, sizes))

    def is_below(self, limit: float, values: Floats, at: _Look, loss: _Loss) -> bool:
        """Whether the loss at these values `[p]` is below a limit, told by as few images as it takes.

        By how much a look from elsewhere is wrong of an image varies less than that image's loss, so
        that a few images of each side tell it in the mean (a control variate). Where that leaves it
        open, all are looked at.
        """
        linear = at.as_if_linear(values)
        estimate, squared_error, start = loss.value(linear), 0.0, 0
        for side in self.images:
            count, few = len(side), _spread(len(side))
            rows, scores = start + few, self._scores(values, side[few])
            wrong = loss.of_each(scores, rows) - loss.of_each(linear[rows], rows)
            estimate += count * wrong.mean()
            if len(few) < count:
                unseen = 1 - len(few) / count
                squared_error += count**2 * unseen * wrong.var(ddof=1) / len(few)
            start += count
        if abs(estimate - limit) > _SURE * np.sqrt(squared_error):
            return estimate < limit
        return loss.value(self._scores(values, *self.images)) < limit

    @torch.no_grad()
    def _scores(self, values: Floats, *images: Tensor) -> Floats:
        """The scores of all these images at these values `[p]`, for a third of a look's price."""
        tensors = self._named(values)
        scores = [functional_call(self.score, tensors, (some,)) for some in _batches(images)]
        return torch.cat(scores).double().cpu().numpy()

    def _named(self, values: Floats) -> dict[str, Tensor]:
        return dict(zip(self.parameters, _shaped(values, self.parameters.values()), strict=True))


def _batches(images: Iterable[Tensor]) -> Iterator[Tensor]:
    for side in images:
        for rows in batches(side):
            yield channels_last(side[rows])


def _spread(count: int) -> NDArray[np.int64]:
    """Some of so many rows, evenly spread; all where half of them would be no more."""
    few = count if count <= 2 * _FEW else _FEW
    return np.arange(few) * count // few


def _minimum(at: _Look, loss: _Loss, damping: float, lowest: Floats) -> Floats:
    """The values `[p]` that minimise the loss of the scores as if they were linear, plus damping."""

    def value_and_gradient(values: Floats) -> tuple[float, Floats]:
        moved = values - at.values
        scores = at.as_if_linear(values)
        held = damping * at.scale * moved
        return (
            loss.value(scores) + float(held @ moved) / 2,
            at.jacobian.T @ loss.gradient(scores) + held,
        )

    bounds = [(low, None) for low in lowest]
    found = minimize(
        value_and_gradient,
        at.values,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": _ITERATIONS},
    )
    minimum: Floats = found.x
    return minimum


def _within(parameter: nn.Parameter, some: Collection[nn.Parameter]) -> bool:
    return any(parameter is each for each in some)


def _flat(tensors: list[Any]) -> Floats:
    return torch.cat([each.detach().flatten() for each in tensors]).double().cpu().numpy()


def _shaped(values: Floats, like: Collection[Tensor]) -> list[Tensor]:
    """Flat values `[p]` as tensors of these shapes, dtypes and devices."""
    parts = np.split(values, np.cumsum([each.numel() for each in like])[:-1])
    return [
        torch.from_numpy(part).to(each).view(each.shape)
        for part, each in zip(parts, like, strict=True)
    ]
