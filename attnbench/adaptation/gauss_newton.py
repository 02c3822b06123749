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

# Training stops where a step would reduce the objective by less than this fraction.
_MIN_RELATIVE_DECREASE = 1e-4

# Iterations for the linearised problem. It need not converge: the next linearisation corrects it.
_MAX_ITERATIONS = 50


def fit_gauss_newton(
    scorer: nn.Module,
    pos: Tensor,
    neg: Tensor,
    *,
    steps: int,
    penalty: float = 0.0,
    target_weight: float = 0.5,
    nonnegative: Collection[nn.Parameter] = (),
) -> None:
    """Minimise the class-balanced logistic loss by damped Gauss-Newton (Levenberg-Marquardt) steps.

    With w the `target_weight` and d the change of the parameters, it minimises

        w mean softplus(-score) over positives + (1 - w) mean softplus(score) over negatives
        + penalty / (2 n) x sum of k_t |d_t|^2 over parameter tensors t.

    n is the number of images: the more there are, the less the penalty counts, as that of a Gaussian
    prior does. k_t is the sum over the tensor of the mean squared derivative of a score at the
    beginning. It makes the penalty independent of the parameters' units. Biases have no penalty.

    Each step evaluates the scores s of all images. As every image gets its own copy of the
    parameters, one backward pass gives the gradients of all scores, which are the Jacobian J. The
    step minimises the objective of the linearised scores s + J d, plus a damping term that keeps d
    small. That problem is convex and takes next to no time. So one pass over the images gives a
    whole minimisation, where gradient descent takes a single step.

    Use it for up to a few thousand parameters: J has images x parameters entries.

    Args:
        scorer: maps features `[k, ...]` to scores `[k]`. Its parameters that require gradients are
            trained in place. Their layers must accept parameters with an additional first dimension
            for images, as `Gains` does.
        pos, neg: features `[n, ...]` of the positives and of the negatives.
        steps: the largest number of steps. Training ends earlier where the next step is expected
            to reduce the objective by less than 0.01 %.
        penalty: the strength of the penalty.
        target_weight: the weight w of the positives as a whole.
        nonnegative: the parameters that are constrained to be at least 0.
    """
    parameters = {
        name: parameter for name, parameter in scorer.named_parameters() if parameter.requires_grad
    }
    scores_of = _ScoreFunction(scorer, parameters, (pos, neg))
    current = scores_of.linearise(_flatten(list(parameters.values())))
    is_bias = [torch.full_like(p, n.endswith("bias")) for n, p in parameters.items()]
    objective = _Objective(
        _LogisticLoss.balanced(len(pos), len(neg), target_weight),
        current.values,
        penalty / (len(pos) + len(neg)) * current.scale * (1 - _flatten(is_bias)),
    )
    lower_bounds = _flatten(
        [
            torch.full_like(parameter, 0.0 if _contains(nonnegative, parameter) else -torch.inf)
            for parameter in parameters.values()
        ]
    )
    lowest, damping = objective.value(current.scores, current.values), _INITIAL_DAMPING
    best = current.values
    for steps_left in reversed(range(steps)):
        values = _minimise(current, objective, damping, lower_bounds)
        predicted = lowest - objective.value(current.predict(values), values)
        if predicted < _MIN_RELATIVE_DECREASE * lowest:
            break
        # Nothing follows the last step, so its gradients, the more expensive part, are not needed.
        candidate = scores_of.linearise(values) if steps_left else None
        scores = scores_of.evaluate(values) if candidate is None else candidate.scores
        decrease = lowest - objective.value(scores, values)
        if decrease > 0:
            lowest, best, current = lowest - decrease, values, candidate or current
        if decrease > 0.75 * predicted:
            damping *= _DAMPING_DECREASE
        elif decrease < 0.25 * predicted:
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

    def gradient(self, scores: Floats) -> Floats:
        """Return the derivatives with respect to the scores, `[n]`."""
        gradient: Floats = -self.weights * self.signs * expit(-self.signs * scores)
        return gradient


@dataclass(frozen=True)
class _Objective:
    """The loss plus the penalty on the change of the parameters.

    Attributes:
        loss: of the scores.
        origin: the values from which changes are measured, `[p]`.
        weights: the weight of each squared change, `[p]`.
    """

    loss: _LogisticLoss
    origin: Floats
    weights: Floats

    def value(self, scores: Floats, values: Floats) -> float:
        """Return the objective of scores `[n]` at values `[p]` of the parameters."""
        return self.loss.value(scores) + float(self.weights @ np.square(values - self.origin)) / 2

    def gradient(self, scores: Floats, jacobian: Floats, values: Floats) -> Floats:
        """Return the derivatives with respect to the values, `[p]`."""
        gradient: Floats = jacobian.T @ self.loss.gradient(scores)
        return gradient + self.weights * (values - self.origin)


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

    @torch.no_grad()
    def evaluate(self, values: Floats) -> Floats:
        """Return the scores `[n]` at these values `[p]`, in a third of the time of `linearise`."""
        tensors = self._named(values)
        scores = [
            functional_call(self.scorer, tensors, (batch,)) for batch in _batches(self.images)
        ]
        return torch.cat(scores).double().cpu().numpy()

    def _named(self, values: Floats) -> dict[str, Tensor]:
        return dict(zip(self.parameters, _unflatten(values, self.parameters.values()), strict=True))


def _batches(images: Iterable[Tensor]) -> Iterator[Tensor]:
    for features in images:
        for rows in batches(features):
            yield channels_last(features[rows])


def _minimise(
    linear: _Linearisation, objective: _Objective, damping: float, lower_bounds: Floats
) -> Floats:
    """Return the values `[p]` that minimise the linearised objective plus the damping term."""

    def value_and_gradient(values: Floats) -> tuple[float, Floats]:
        change = values - linear.values
        scores = linear.predict(values)
        damped = damping * linear.scale * change
        return (
            objective.value(scores, values) + float(damped @ change) / 2,
            objective.gradient(scores, linear.jacobian, values) + damped,
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
