"""S4NN (Kheradpisheh & Masquelier 2020): two spiking neurons read out frozen features.

A neuron without leak integrates the spikes of cells i that fire at times t_i, and fires at 1:

    V_k(t) = Σ_i w_ki [t_i ≤ t]

The score is how far the target's neuron fires ahead of the other one.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from attnbench import Backbone
from attnbench.adaptation import fit_adam, frozen_features, pooled_encoder


class FirstSpike(torch.autograd.Function):
    """Return the step at which a potential `[n, steps, k]` first reaches 1, or the last step.

    This step t_k has no derivative. It is assumed to fall with the potential V_k(t) by a_k(t). In
    S4NN that is 1 at t = t_k and 0 elsewhere. With a surrogate slope s it is, at all t <= t_k, the
    derivative of sigmoid(s (V_k(t) - 1)), a smooth version of "has fired by t".
    """

    @staticmethod
    def forward(ctx: FunctionCtx, potential: Tensor, slope: float | None) -> Tensor:
        last = potential.shape[1] - 1
        steps = torch.arange(last + 1, device=potential.device)[:, None]
        first = torch.where(potential >= 1, steps, last).amin(dim=1)
        ctx.save_for_backward(potential, steps, first)
        ctx.slope = slope
        return first.to(potential)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        potential, steps, first = ctx.saved_tensors
        if ctx.slope is None:
            fall = (steps == first[:, None]).to(grad)
        else:
            fired = torch.sigmoid(ctx.slope * (potential - 1))
            fall = ctx.slope * fired * (1 - fired) * (steps <= first[:, None])
        return -grad[:, None] * fall, None


class SpikingReadout(nn.Module):
    """Map features `[n, d]` to scores `[n]`.

    Each feature drives an on-cell and an off-cell, for values above and below its mean. At z
    standard deviations from the mean, the cell fires at step (1 - z / reach) x steps. At the mean
    or on the wrong side of it, it never fires.

    Args:
        features: `[n, d]`, from which means, deviations and the scale of the weights are computed.
        steps: of time.
        reach: the z at which a cell fires at once.
        slope: of the surrogate gradient; None for the gradient of S4NN.
        sharpness: the score if one neuron is ahead by all steps.
    """

    def __init__(
        self, features: Tensor, steps: int, reach: float, slope: float | None, sharpness: float
    ) -> None:
        super().__init__()
        self.steps, self.reach, self.slope, self.sharpness = steps, reach, slope, sharpness
        deviation = features.std(dim=0, correction=0)
        self.mean = nn.Parameter(features.mean(dim=0), requires_grad=False)
        self.deviation = nn.Parameter(deviation.where(deviation > 0, 1), requires_grad=False)
        # With this mean weight, an average neuron fires about half-way through.
        spikes = self.spikes(features)[:, steps // 2].sum(dim=1).mean()
        self.scale = 1 / spikes.clamp(min=1).item()
        self.weight = nn.Parameter(
            2 * self.scale * torch.rand(2, 2 * features.shape[1]).to(features)
        )

    def spikes(self, features: Tensor) -> Tensor:
        """Return 1 where a cell has fired by a step, else 0: `[n, steps + 1, 2 d]`."""
        z = (features - self.mean) / self.deviation
        z = torch.cat([z, -z], dim=1)
        times = ((1 - z / self.reach).clamp(min=0) * self.steps).round()
        times = times.where(z > 0, self.steps + 1)
        steps = torch.arange(self.steps + 1, device=z.device)[:, None]
        return (times[:, None] <= steps).to(features)

    def forward(self, features: Tensor) -> Tensor:
        first = FirstSpike.apply(self.spikes(features) @ self.weight.T, self.slope)
        return (first[:, 1] - first[:, 0]) * self.sharpness / self.steps


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    gradient: str,
    slope: float,
    steps: int,
    reach: float,
    sharpness: float,
    learning_rate: float,
    epochs: int,
    stop_loss: float,
) -> nn.Module:
    if gradient not in ("s4nn", "surrogate"):
        raise ValueError(f"gradient must be 's4nn' or 'surrogate', not {gradient!r}")
    encoder = pooled_encoder(backbone)
    features = [frozen_features(encoder, images) for images in (pos, neg)]
    readout = SpikingReadout(
        torch.cat(features), steps, reach, slope if gradient == "surrogate" else None, sharpness
    )
    fit_adam(
        readout,
        *features,
        learning_rate=learning_rate * readout.scale,
        epochs=epochs,
        stop_loss=stop_loss,
    )
    return nn.Sequential(encoder, readout)
