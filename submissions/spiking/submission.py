"""A spiking read-out of frozen features with one hidden layer, trained by one of two rules.

The neurons and the rules are those of `attnbench.adaptation.spiking`. The score is how far the target's
output neuron fires ahead of the other one.
"""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import balanced_loss, fit_adam, frozen_features, pooled_encoder
from attnbench.adaptation.spiking import (
    LatencyLayer,
    fired_by,
    first_step,
    initial_weights,
    latency_loss,
    potentials,
    spikes,
)


class SpikingNetwork(nn.Module):
    """Map features `[n, d]` to the firing times of two output neurons, `[n, 2]`.

    The first output neuron stands for the target, the other one for everything else. Each feature
    drives an on-cell and an off-cell, for values above and below its mean. At z standard deviations
    from the mean, the cell fires at step (1 - z / reach) x T. At the mean or on the wrong side of it,
    it never fires.

    Args:
        features: `[n, d]`, from which means, deviations and the scale of the weights are computed.
        hidden: the number of hidden neurons.
        last: T.
        reach: the z at which a cell fires at once.
        slope: of the surrogate, per threshold; None for the latency rule.
    """

    def __init__(
        self, features: Tensor, hidden: int, last: int, reach: float, slope: float | None
    ) -> None:
        super().__init__()
        self.last, self.reach, self.slope = last, reach, slope
        deviation = features.std(dim=0, correction=0)
        self.mean = nn.Parameter(features.mean(dim=0), requires_grad=False)
        self.deviation = nn.Parameter(deviation.where(deviation > 0, 1), requires_grad=False)
        times = self.input_times(features)
        self.hidden = initial_weights(times, hidden, last)
        hidden_times = first_step(potentials(spikes(times, last), self.hidden.detach()))
        self.output = initial_weights(hidden_times, 2, last)

    def forward(self, features: Tensor) -> Tensor:
        *_, outputs = self.firing_times(features)
        return outputs

    def input_times(self, features: Tensor) -> Tensor:
        """Return the firing times of the on-cells and off-cells, `[n, 2 d]`."""
        z = (features - self.mean) / self.deviation
        z = torch.cat([z, -z], dim=1)
        times = ((1 - z / self.reach).clamp(min=0) * self.last).round()
        return times.where(z > 0, self.last)

    def firing_times(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the firing times of input cells, hidden and output neurons, `[n, ...]` each."""
        inputs = self.input_times(features)
        if self.slope is None:
            hidden = LatencyLayer.apply(inputs, self.hidden, self.last)
            return inputs, hidden, LatencyLayer.apply(hidden, self.output, self.last)
        hidden_fired = fired_by(potentials(spikes(inputs, self.last), self.hidden), self.slope)
        # A spike arrives one step after it was fired.
        arrived = torch.cat([torch.zeros_like(hidden_fired[:, :1]), hidden_fired[:, :-1]], dim=1)
        output_fired = fired_by(potentials(arrived, self.output), self.slope)
        # A neuron that fires at step t has not fired by t steps. The last one stands for "never".
        hidden, outputs = ((1 - fired[:, :-1]).sum(dim=1) for fired in (hidden_fired, output_fired))
        return inputs, hidden, outputs


class SpikingDetector(nn.Module):
    """Map images `[n, 3, h, w]` to scores `[n]`.

    Args:
        encoder: maps images to features `[n, d]`.
        network: maps features to firing times.
        sharpness: the score if the target's neuron is ahead by all steps.
    """

    def __init__(self, encoder: nn.Module, network: SpikingNetwork, sharpness: float) -> None:
        super().__init__()
        self.encoder, self.network, self.sharpness = encoder, network, sharpness

    def forward(self, images: Tensor) -> Tensor:
        return self.scores(self.network(self.encoder(images)))

    def scores(self, times: Tensor) -> Tensor:
        """Return scores `[n]` for output times `[n, 2]`."""
        return (times[:, 1] - times[:, 0]) * self.sharpness / self.network.last

    def spikes_and_times(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the number of spikes up to the decision and the step of the decision, `[n]` each.

        The decision is the first spike of an output neuron, or the last step if there is none. The
        spikes of input cells, hidden and output neurons count.
        """
        layers = self.network.firing_times(self.encoder(images))
        decision = layers[-1].amin(dim=1)
        times = torch.cat(layers, dim=1)
        count = ((times <= decision[:, None]) & (times < self.network.last)).sum(dim=1)
        return count, decision


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    rule: str,
    slope: float,
    gamma: float,
    hidden: int,
    steps: int,
    reach: float,
    sharpness: float,
    learning_rate: float,
    epochs: int,
    stop_loss: float,
) -> nn.Module:
    if rule not in ("latency", "surrogate"):
        raise ValueError(f"rule must be 'latency' or 'surrogate', not {rule!r}")
    encoder = pooled_encoder(backbone)
    features = [frozen_features(encoder, images) for images in (pos, neg)]
    network = SpikingNetwork(
        torch.cat(features), hidden, steps, reach, None if rule == "latency" else slope
    )
    detector = SpikingDetector(encoder, network, sharpness)

    def loss(pos_times: Tensor, neg_times: Tensor) -> Tensor:
        if rule == "latency":
            return latency_loss(pos_times, neg_times, gamma, steps)
        return balanced_loss(detector.scores(pos_times), detector.scores(neg_times))

    fit_adam(
        network,
        *features,
        learning_rate=learning_rate,
        epochs=epochs,
        stop_loss=stop_loss,
        loss=loss,
    )
    return detector
