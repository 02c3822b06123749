"""RAM (Mnih et al. 2014): hard glimpses, and REINFORCE to learn where to look.

With crops c_t of the feature maps at locations l_t:

    l_t ~ N(tanh(P h_{t-1}), spread²)
    g_t = relu(A f(c_t) + B l_t)
    h_t = tanh(C g_t + D h_{t-1})

    score = the backbone's log-odds of the target + v . h_T + b
"""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, fit_adam
from attnbench.adaptation.glimpses import GlimpseEncoder, GlimpseReadout, upright_windows


class Ram(nn.Module):
    """Map feature maps, from `encoder.lower_stages`, to the outputs with the evidence of crops.

    In training, the location of a crop is drawn from a normal distribution whose mean the core
    predicts. In prediction it is the mean. No gradient flows through a crop to its location.

    Args:
        encoder: encodes the whole maps and crops of them.
        target: the target's index among the backbone's outputs, or None.
        glimpses: T, the number of crops.
        width: of the core h.
        spread: standard deviation of locations, which run from -1 to 1.
    """

    def __init__(
        self,
        encoder: GlimpseEncoder,
        target: int | None,
        glimpses: int,
        width: int,
        spread: float,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.glimpses = glimpses
        self.spread = spread
        self.locator = nn.Linear(width, 2)
        self.what = nn.Linear(encoder.features, width)
        self.where = nn.Linear(2, width)
        self.core = nn.RNNCell(width, width, nonlinearity="tanh")
        self.readout = GlimpseReadout(target, width)
        # The first location is the centre.
        nn.init.zeros_(self.locator.weight)
        nn.init.zeros_(self.locator.bias)

    def crop(self, maps: Tensor, locations: Tensor) -> Tensor:
        """Return the features `[n, features]` of crops at locations `[n, 2]` from -1 to 1."""
        with torch.no_grad():
            return self.encoder.glimpse(maps, upright_windows(locations, self.encoder.scale))

    def gaze(self, maps: Tensor, explore: bool) -> tuple[Tensor, Tensor]:
        """Look at all crops.

        Returns:
            The last state of the core `[n, width]`, and the log-probability of the locations up to
            a constant, `[n]`.
        """
        state = maps.new_zeros(len(maps), self.core.hidden_size)
        log_probability = maps.new_zeros(len(maps))
        for _ in range(self.glimpses):
            mean = torch.tanh(self.locator(state.detach()))
            drawn = mean + self.spread * torch.randn_like(mean) if explore else mean
            drawn = drawn.detach()
            log_probability = log_probability - ((drawn - mean) ** 2).sum(1) / (2 * self.spread**2)
            locations = drawn.clamp(-1, 1)
            features = self.crop(maps, locations)
            state = self.core(torch.relu(self.what(features) + self.where(locations)), state)
        return state, log_probability

    def forward(self, maps: Tensor) -> Tensor:
        return self.readout(self.encoder.whole(maps), self.gaze(maps, explore=False)[0])


class Exploration(nn.Module):
    """Map feature maps to scores `[n]` expected over random sequences of locations, for training.

    Args:
        ram: the network to train.
        score: maps its outputs to scores.
        walks: the number of sequences per image, at least two.
    """

    def __init__(self, ram: Ram, score: nn.Module, walks: int) -> None:
        super().__init__()
        self.ram, self.score, self.walks = ram, score, walks

    def forward(self, maps: Tensor) -> Tensor:
        ram, walks = self.ram, self.walks
        state, log_probability = ram.gaze(maps.repeat_interleave(walks, dim=0), explore=True)
        outputs = ram.encoder.whole(maps).repeat_interleave(walks, dim=0)
        scores = self.score(ram.readout(outputs, state)).unflatten(0, (-1, walks))
        return expected_score(scores, log_probability.unflatten(0, (-1, walks)))


def expected_score(scores: Tensor, log_probability: Tensor) -> Tensor:
    """Return mean scores `[n]` whose gradient is the REINFORCE estimate for the expected score.

        grad E[s] = E[grad s + (s - b) grad log p]

    The baseline b of a walk is the mean score of the image's other walks, which is independent of
    it.

    Args:
        scores, log_probability: `[n, walks]`, with at least two walks.
    """
    baseline = (scores.sum(1, keepdim=True) - scores) / (scores.shape[1] - 1)
    advantage = (scores - baseline).detach()
    return (scores + advantage * (log_probability - log_probability.detach())).mean(1)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    after: str,
    window_scale: float,
    glimpses: int,
    width: int,
    walks: int,
    spread: float,
    learning_rate: float,
    epochs: int,
    stop_loss: float,
) -> nn.Module:
    encoder = GlimpseEncoder(backbone, after, window_scale, pos[:1])
    ram = Ram(encoder, backbone.target, glimpses, width, spread).to(pos.device)
    # The read-out has a bias.
    detector = Detector(ram, backbone.target, pos[:1], frozen=encoder.lower_stages, threshold=False)
    fit_adam(
        Exploration(ram, detector.readout, walks),
        *detector.frozen_features(pos, neg),
        learning_rate=learning_rate,
        epochs=epochs,
        stop_loss=stop_loss,
    )
    return detector
