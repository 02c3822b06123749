"""Damped Gauss-Newton steps: training a few parameters in a few passes over the images."""

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

from attnbench.adaptation.features import batches, channels_last

Floats = NDArray[np.float64]

# Damping is relative to the loss: the cost of changing a score by one. After a step it is
# multiplied by one of the factors if the loss fell by more than 3/4, or less than 1/4, of what was
# predicted.
_INITIAL_DAMPING, _DAMPING_DECREASE, _DAMPING_INCREASE = 1e-3, 0.1, 10.0

# A loss is first estimated from this many images per class, if a class has more than twice as many.
# The estimate decides if it differs from the limit by this many standard errors.
_SAMPLE_SIZE, _STANDARD_ERRORS = 16, 3.0

# Iterations for the linearised problem. It need not converge: the next linearisation corrects it.
_MAX_ITERATIONS = 50


def fit_gauss_newton(
    scorer: nn.Module,
    pos: Tensor,
    neg: Tensor,
    *,
    steps: int,
    stop_loss: float = 0.0,
    target_weight: float = 0.5,
    nonnegative: Collection[nn.Parameter] = (),
) -> None:
    """Minimise the class-balanced logistic loss by damped Gauss-Newton (Levenberg-Marquardt) steps.

    The loss is, with w the `target_weight`,

        w mean softplus(-score) over positives + (1 - w) mean softplus(score) over negatives.

    Each step evaluates the scores s of all images. As every image gets its own copy of the
    parameters, one backward pass gives the gradients of all scores, which are the Jacobian J. The
    step minimises the loss of the linearised scores s + J d over the change d of the parameters,
    plus a damping term that keeps d small. That problem is convex and takes next to no time. So one
    pass over the images gives a whole minimisation, where gradient descent takes a single step.

    Use it for up to a few thousand parameters: J has images x parameters entries.

    Args:
        scorer: maps features `[k, ...]` to scores `[k]`. Its parameters that require gradients are
            trained in place. Their layers must accept parameters with an additional first dimension
            for images, as `Gains` does.
        pos, neg: features `[n, ...]` of the positives and of the negatives.
        steps: the largest number of steps.
        stop_loss: training stops as soon as the loss is below this.
        target_weight: the weight w of the positives as a whole.
        nonnegative: the parameters that are constrained to be at least 0.
    """
    parameters = {
        name: parameter for name, parameter in scorer.named_parameters() if parameter.requires_grad
    }
    scores_of = _ScoreFunction(scorer, parameters, (pos, neg))
    loss = _LogisticLoss.balanced(len(pos), len(neg), target_weight)
    lower_bounds = _flatten(
        [
            torch.full_like(parameter, 0.0 if _contains(nonnegative, parameter) else -torch.inf)
            for parameter in parameters.values()
        ]
    )
    current = scores_of.linearise(_flatten(list(parameters.values())))
    best, damping = current.values, _INITIAL_DAMPING
    for steps_left in reversed(range(steps)):
        if loss.value(current.scores) < stop_loss:
            break
        values = _minimise(current, loss, damping, lower_bounds)
        predicted_loss = loss.value(current.predict(values))
        if not steps_left or predicted_loss < stop_loss:
            # Training may end here. Then gradients, the more expensive part of a linearisation,
            # would be computed in vain. So the loss is evaluated without them first.
            limit = stop_loss if steps_left else loss.value(current.scores)
            if scores_of.loss_is_below(limit, values, current, loss):
                best = values
                break
            if not steps_left:
                break
        predicted_decrease = loss.value(current.scores) - predicted_loss
        candidate = scores_of.linearise(values)
        decrease = loss.value(current.scores) - loss.value(candidate.scores)
        if decrease > 0:
            current, best = candidate, values
        if decrease > 0.75 * predicted_decrease:
            damping *= _DAMPING_DECREASE
        elif decrease < 0.25 * predicted_decrease:
            damping *= _DAMPING_INCREASE
    with torch.no_grad():
        trained = _unflatten(best, parameters.values())
        for parameter, value in zip(parameters.values(), trained, strict=True):
            parameter.copy_(value)


@dataclass(frozen=True)
class _LogisticLoss:
    """The weighted logistic loss of scores `[n]`, those of the positives first.

    Attributes:
        signs: `[n]`, 1 for positives and -1 for negatives.
        weights: `[n]`, the weight of each image. They sum to 1.
    """

    signs: Floats
    weights: Floats

    @classmethod
    def balanced(cls, pos: int, neg: int, target_weight: float) -> _LogisticLoss:
        """Return the loss for these numbers of images, with equal weights within a class."""
        counts = [pos, neg]
        return cls(
            np.repeat([1.0, -1.0], counts),
            np.repeat([target_weight / pos, (1 - target_weight) / neg], counts),
        )

    def value(self, scores: Floats) -> float:
        """Return the loss of the scores `[n]`."""
        return float(self.weights @ np.logaddexp(0, -self.signs * scores))

    def terms(self, scores: Floats, rows: NDArray[np.int64]) -> Floats:
        """Return the weighted losses `[k]` of the images in `rows`, given their scores `[k]`."""
        terms: Floats = self.weights[rows] * np.logaddexp(0, -self.signs[rows] * scores)
        return terms

    def gradient(self, scores: Floats) -> Floats:
        """Return the derivatives with respect to the scores, `[n]`."""
        gradient: Floats = -self.weights * self.signs * expit(-self.signs * scores)
        return gradient


@dataclass(frozen=True)
class _Linearisation:
    """The scores of all images as a linear function of the parameters, around some values of these.

    Attributes:
        values: of the parameters, `[p]`.
        scores: at these values, `[n]`.
        jacobian: the derivatives of the scores with respect to the parameters, `[n, p]`.
        scale: `[p]`, the sum of the mean squared derivatives over a parameter's tensor. Damping is
            multiplied by it, so that it does not depend on the units of the parameters.
    """

    values: Floats
    scores: Floats
    jacobian: Floats
    scale: Floats

    def predict(self, values: Floats) -> Floats:
        """Return the linearised scores `[n]` at other values `[p]`."""
        scores: Floats = self.scores + self.jacobian @ (values - self.values)
        return scores


@dataclass(frozen=True)
class _ScoreFunction:
    """The scores of all images as a function of the trained parameters.

    Attributes:
        scorer: maps features to scores.
        parameters: the trained ones, by their names in `scorer`.
        images: features of the positives and of the negatives.
    """

    scorer: nn.Module
    parameters: dict[str, nn.Parameter]
    images: tuple[Tensor, Tensor]

    def linearise(self, values: Floats) -> _Linearisation:
        """Evaluate the scores and their derivatives at these values `[p]` of the parameters."""
        tensors = self._named(values)
        scores, jacobians = [], []
        for batch in _batches(self.images):
            # Each image has its own copy of the parameters. So the gradient of the sum of all
            # scores with respect to a copy is the gradient of that image's score.
            copies = {
                name: tensor.expand(len(batch), *tensor.shape).clone().requires_grad_()
                for name, tensor in tensors.items()
            }
            batch_scores = functional_call(self.scorer, copies, (batch,))
            gradients = torch.autograd.grad(batch_scores.sum(), list(copies.values()))
            scores.append(batch_scores.detach())
            jacobians.append(
                torch.cat([gradient.reshape(len(batch), -1) for gradient in gradients], dim=1)
            )
        jacobian = torch.cat(jacobians).double().cpu().numpy()
        squared = np.square(jacobian).mean(axis=0)
        sizes = [parameter.numel() for parameter in self.parameters.values()]
        sums = [part.sum() for part in np.split(squared, np.cumsum(sizes)[:-1])]
        all_scores = torch.cat(scores).double().cpu().numpy()
        return _Linearisation(values, all_scores, jacobian, np.repeat(sums, sizes))

    def loss_is_below(
        self, limit: float, values: Floats, linear: _Linearisation, loss: _LogisticLoss
    ) -> bool:
        """Return whether the loss at these values `[p]` is below a limit, from few images if possible.

        The error of a linearisation varies less between images than the loss does. So the loss is
        predicted for all images, and corrected by the mean error on a sample of each class (a
        control variate). If the limit is within three standard errors, all images are evaluated.
        """
        predicted = linear.predict(values)
        estimate, squared_error, start = loss.value(predicted), 0.0, 0
        for features in self.images:
            count, sample = len(features), _sample_rows(len(features))
            rows, scores = start + sample, self._scores(values, features[sample])
            errors = loss.terms(scores, rows) - loss.terms(predicted[rows], rows)
            estimate += count * errors.mean()
            if len(sample) < count:
                unsampled = 1 - len(sample) / count
                squared_error += count**2 * unsampled * errors.var(ddof=1) / len(sample)
            start += count
        if abs(estimate - limit) > _STANDARD_ERRORS * np.sqrt(squared_error):
            return estimate < limit
        return loss.value(self._scores(values, *self.images)) < limit

    @torch.no_grad()
    def _scores(self, values: Floats, *images: Tensor) -> Floats:
        """Return the scores of images at these values `[p]`, in a third of `linearise`'s time."""
        tensors = self._named(values)
        scores = [functional_call(self.scorer, tensors, (batch,)) for batch in _batches(images)]
        return torch.cat(scores).double().cpu().numpy()

    def _named(self, values: Floats) -> dict[str, Tensor]:
        return dict(zip(self.parameters, _unflatten(values, self.parameters.values()), strict=True))


def _batches(images: Iterable[Tensor]) -> Iterator[Tensor]:
    for features in images:
        for rows in batches(features):
            yield channels_last(features[rows])


def _sample_rows(count: int) -> NDArray[np.int64]:
    """Return evenly spaced row numbers, or all if a sample would be at least half of them."""
    size = count if count <= 2 * _SAMPLE_SIZE else _SAMPLE_SIZE
    return np.arange(size) * count // size


def _minimise(
    linear: _Linearisation, loss: _LogisticLoss, damping: float, lower_bounds: Floats
) -> Floats:
    """Return the values `[p]` that minimise the linearised scores' loss plus the damping term."""

    def value_and_gradient(values: Floats) -> tuple[float, Floats]:
        change = values - linear.values
        scores = linear.predict(values)
        damped = damping * linear.scale * change
        return (
            loss.value(scores) + float(damped @ change) / 2,
            linear.jacobian.T @ loss.gradient(scores) + damped,
        )

    result = minimize(
        value_and_gradient,
        linear.values,
        jac=True,
        method="L-BFGS-B",
        bounds=[(bound, None) for bound in lower_bounds],
        options={"maxiter": _MAX_ITERATIONS},
    )
    minimum: Floats = result.x
    return minimum


def _contains(parameters: Collection[nn.Parameter], parameter: nn.Parameter) -> bool:
    # `in` would compare the values of tensors.
    return any(parameter is candidate for candidate in parameters)


def _flatten(tensors: list[Any]) -> Floats:
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).double().cpu().numpy()


def _unflatten(values: Floats, like: Collection[Tensor]) -> list[Tensor]:
    """Return flat values `[p]` as tensors with the shapes, dtypes and devices of `like`."""
    parts = np.split(values, np.cumsum([tensor.numel() for tensor in like])[:-1])
    return [
        torch.from_numpy(part).to(tensor).view(tensor.shape)
        for part, tensor in zip(parts, like, strict=True)
    ]
