"""A read-out of two spiking neurons that tell by who fires first (S4NN), on frozen features."""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from attnbench import Backbone
from attnbench.adaptation import encoder, fit, quick_outputs


class FirstSpike(torch.autograd.Function):
    """The step at which a potential `[n, steps, k]` first reaches 1, the last one where it never does.

    A step t_k has no derivative. It is taken to fall with the potential V_k(t) by a_k(t): in S4NN by
    1 at t = t_k and else 0; with a surrogate slope s, at all t <= t_k by the derivative of
    sigmoid(s (V_k(t) - 1)), which stands for "has fired by t".
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
    """Features `[n, d]` to scores `[n]`: how far the target's neuron fires ahead of the other.

    Each feature has an on- and an off-cell, for what is above and below its mean: z standard
    deviations fire at step (1 - z / reach) x steps, none and less never. A neuron's potential is the
    sum of its weights of all cells that have fired; it fires where that reaches 1.

    Args:
        features: `[n, d]`, to take means, deviations and the weights' scale from.
    """

    def __init__(
        self, features: Tensor, steps: int, reach: float, slope: float | None, sharpness: float
    ) -> None:
        super().__init__()
        self.steps, self.reach, self.slope, self.sharpness = steps, reach, slope, sharpness
        deviation = features.std(dim=0, correction=0)
        self.mean = nn.Parameter(features.mean(dim=0), requires_grad=False)
        self.deviation = nn.Parameter(deviation.where(deviation > 0, 1), requires_grad=False)
        # Half-way through, about as many cells as make an average neuron fire have fired.
        self.scale = (
            1 / self.arrivals(features)[:, steps // 2].sum(dim=1).mean().clamp(min=1).item()
        )
        self.weight = nn.Parameter(
            2 * self.scale * torch.rand(2, 2 * features.shape[1]).to(features)
        )

    def arrivals(self, features: Tensor) -> Tensor:
        """1 where a cell has fired by a step, else 0: `[n, steps + 1, 2 d]`."""
        z = (features - self.mean) / self.deviation
        z = torch.cat([z, -z], dim=1)
        times = ((1 - z / self.reach).clamp(min=0) * self.steps).round()
        times = times.where(z > 0, self.steps + 1)
        steps = torch.arange(self.steps + 1, device=z.device)[:, None]
        return (times[:, None] <= steps).to(features)

    def forward(self, features: Tensor) -> Tensor:
        first = FirstSpike.apply(self.arrivals(features) @ self.weight.T, self.slope)
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
    enough: float,
) -> nn.Module:
    if gradient not in ("s4nn", "surrogate"):
        raise ValueError(f"gradient must be s4nn or surrogate, not {gradient!r}")
    features = encoder(backbone)
    sides = [quick_outputs(features, side) for side in (pos, neg)]
    readout = SpikingReadout(
        torch.cat(sides), steps, reach, slope if gradient == "surrogate" else None, sharpness
    )
    fit(
        readout,
        *sides,
        learning_rate=learning_rate * readout.scale,
        epochs=epochs,
        enough=enough,
    )
    return nn.Sequential(features, readout)
