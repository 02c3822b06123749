"""Layers of spiking neurons that fire at most once, and two rules to train them.

Time has steps 0 to T. Neuron k has no leak. It integrates the spikes of cells i, which fire at times
t_i, and fires once, at the first step at which its potential is at least 1:

    V_k(t) = Σ_i w_ki [t_i < t],   t_k = min {t : V_k(t) ≥ 1}, or T, which stands for "never"
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class LatencyLayer(torch.autograd.Function):
    """Map firing times `[n, i]` and weights `[k, i]` to firing times `[n, k]`, with S4NN's gradient.

    S4NN (Kheradpisheh & Masquelier 2020, arXiv 1910.09495) takes the derivative of t_k by V_k(t_k)
    as -1, and that of V_k by t_i as -w_ki. So, with the error d_k = dL/dt_k of an image,

        dL/dw_ki = -d_k [t_i < t_k],   dL/dt_i = Σ_k d_k w_ki [t_i < t_k].

    The paper normalises the errors of each layer to unit length. Here the length of an image's errors
    stays what it is in the layer above, so that the loss can weight images.
    """

    @staticmethod
    def forward(ctx: Any, times: Tensor, weight: Tensor, last: int) -> Tensor:
        firing_times = first_step(potentials(spikes(times, last), weight))
        ctx.save_for_backward(times, weight, firing_times)
        return firing_times

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        times, weight, firing_times = ctx.saved_tensors
        # [n, k, i]: the error of neuron k, where cell i fired before it.
        errors = grad[:, :, None] * (times[:, None] < firing_times[:, :, None])
        back = (errors * weight).sum(dim=1)
        length = back.norm(dim=1, keepdim=True)
        back = back * grad.norm(dim=1, keepdim=True) / length.where(length > 0, 1)
        return back, -errors.sum(dim=0), None


class Spike(torch.autograd.Function):
    """Return 1 where a potential is at least 1, else 0, with the derivative of a sigmoid.

    The derivative is that of sigmoid(slope (V - 1)).
    """

    @staticmethod
    def forward(ctx: Any, potential: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(potential)
        ctx.slope = slope
        return (potential >= 1).to(potential)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (potential,) = ctx.saved_tensors
        fired = torch.sigmoid(ctx.slope * (potential - 1))
        return grad * ctx.slope * fired * (1 - fired), None


def spikes(times: Tensor, last: int) -> Tensor:
    """Return 1 where a cell with a firing time `[n, i]` fired before a step: `[n, last + 1, i]`."""
    steps = torch.arange(last + 1, device=times.device)[:, None]
    return (times[:, None] < steps).to(times)


def potentials(fired: Tensor, weight: Tensor) -> Tensor:
    """Return potentials `[n, steps, k]` for what fired, `[n, steps, i]`, and weights `[k, i]`."""
    return fired @ weight.T


def first_step(potential: Tensor) -> Tensor:
    """Return the first step at which a potential `[n, steps, k]` is at least 1, or the last step."""
    last = potential.shape[1] - 1
    steps = torch.arange(last + 1, device=potential.device)[:, None]
    return torch.where(potential >= 1, steps, last).amin(dim=1).to(potential)


def relative_targets(times: Tensor, label: int, gamma: float, last: int) -> Tensor:
    """Return S4NN's target times `[n, 2]` for output times `[n, 2]` of images of one class.

    With τ the earlier time of the two: the right neuron shall fire at τ, and the wrong one at
    τ + gamma if it fires before that. If neither fires, the right one shall fire at last - gamma.

    Args:
        times: 0 is the target's neuron, 1 the other.
        label: the right neuron.
        gamma: in steps.
        last: T.
    """
    first = times.amin(dim=1, keepdim=True)
    target = torch.maximum(times, (first + gamma).clamp(max=last))
    target[:, label] = torch.where(first == last, first - gamma, first)[:, 0]
    return target


def initial_weights(times: Tensor, neurons: int, last: int) -> nn.Parameter:
    """Return random positive weights `[neurons, i]` for inputs that fire at `times` `[n, i]`.

    An average neuron then fires when a quarter of the spikes have arrived.
    """
    count = (times < last).sum(dim=1).float().mean().clamp(min=1)
    return nn.Parameter(8 / count * torch.rand(neurons, times.shape[1]).to(times))


def fired_by(potential: Tensor, slope: float) -> Tensor:
    """Return 1 from the first step on at which a potential `[n, steps, k]` is at least 1."""
    fired: Tensor = Spike.apply(potential.cummax(dim=1).values, slope)
    return fired


def latency_loss(pos_times: Tensor, neg_times: Tensor, gamma: float, last: int) -> Tensor:
    """Return the mean error of output times `[n, 2]`, with equal weights of positives and negatives.

    The error of an image is the length of the difference from its `relative_targets`, divided by
    last. So the gradients of all images of a class have the same length, as in S4NN.
    """
    pos_targets, neg_targets = (
        relative_targets(times.detach(), label, gamma, last)
        for label, times in enumerate((pos_times, neg_times))
    )
    pos_errors = (pos_times - pos_targets).norm(dim=1)
    neg_errors = (neg_times - neg_targets).norm(dim=1)
    error: Tensor = (pos_errors.mean() + neg_errors.mean()) / (2 * last)
    return error
