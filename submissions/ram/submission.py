"""RAM (Mnih et al. 2014): hard glimpses, and REINFORCE to learn where to look.

With crops c_t of the pixels at locations l_t:

    l_t ~ N(tanh(P h_{t-1} + p_t), spread²)
    g_t = relu(A f(c_t) + B l_t)
    h_t = tanh(C g_t + D h_{t-1})

    score after t glimpses = v . h_t + a x mean log-odds of the target in c_1 ... c_t + b
"""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import fit_adam
from attnbench.adaptation.glimpses import (
    GlimpseDetector,
    GlimpseEncoder,
    spiral,
    upright_windows,
)


class Ram(GlimpseDetector):
    """Score images `[n, 3, h, w]` by crops of them.

    In training, the location of a crop is drawn from a normal distribution whose mean the core
    predicts. In prediction it is the mean. No gradient flows through a crop to its location.

    Args:
        encoder: encodes crops.
        glimpses: T, the number of crops.
        width: of the core h.
        spread: standard deviation of locations, which run from -1 to 1.
    """

    def __init__(self, encoder: GlimpseEncoder, glimpses: int, width: int, spread: float) -> None:
        super().__init__(encoder, glimpses, width)
        self.spread = spread
        self.locator = nn.Linear(width, 2, bias=False)
        self.path = nn.Parameter(torch.atanh(spiral(glimpses)))
        self.what = nn.Linear(encoder.features, width)
        self.where = nn.Linear(2, width)
        self.core = nn.RNNCell(width, width, nonlinearity="tanh")
        # An untrained detector looks along the spiral, whatever it sees.
        nn.init.zeros_(self.locator.weight)

    def crop(self, images: Tensor, locations: Tensor) -> tuple[Tensor, Tensor]:
        """Encode crops at locations `[n, 2]` from -1 to 1; see `GlimpseEncoder`."""
        with torch.no_grad():
            features: tuple[Tensor, Tensor] = self.encoder(
                images, upright_windows(locations, self.encoder.scale)
            )
        return features

    def gaze(self, images: Tensor, budget: int, explore: bool) -> tuple[Tensor, Tensor]:
        """Look at the first `budget` crops.

        Returns:
            The score after each crop, and the log-probability of the locations up to it, which is
            known up to a constant; `[n, budget]` both.
        """
        state = images.new_zeros(len(images), self.core.hidden_size)
        states, evidence, log_probabilities = [], [], []
        for start in self.path[:budget]:
            mean = torch.tanh(self.locator(state.detach()) + start)
            drawn = mean + self.spread * torch.randn_like(mean) if explore else mean
            drawn = drawn.detach()
            log_probabilities.append(-((drawn - mean) ** 2).sum(1) / (2 * self.spread**2))
            locations = drawn.clamp(-1, 1)
            features, log_odds = self.crop(images, locations)
            state = self.core(torch.relu(self.what(features) + self.where(locations)), state)
            states.append(state)
            evidence.append(log_odds)
        return self.read(states, evidence), torch.stack(log_probabilities, dim=1).cumsum(dim=1)

    def scores(self, images: Tensor, budget: int) -> Tensor:
        return self.gaze(images, budget, explore=False)[0]


class Exploration(nn.Module):
    """Map images to scores `[n, T]` expected over random sequences of locations, for training.

    Args:
        ram: the detector to train.
        walks: the number of sequences per image, at least two.
    """

    def __init__(self, ram: Ram, walks: int) -> None:
        super().__init__()
        self.ram, self.walks = ram, walks

    def forward(self, images: Tensor) -> Tensor:
        repeated = images.repeat_interleave(self.walks, dim=0)
        scores, log_probability = self.ram.gaze(repeated, self.ram.glimpses, explore=True)
        shape = (len(images), self.walks)
        return expected_score(scores.unflatten(0, shape), log_probability.unflatten(0, shape))


def expected_score(scores: Tensor, log_probability: Tensor) -> Tensor:
    """Return mean scores `[n, t]` whose gradient is the REINFORCE estimate for the expected score.

        grad E[s] = E[grad s + (s - b) grad log p]

    The baseline b of a walk is the mean score of the image's other walks, which is independent of
    it.

    Args:
        scores, log_probability: `[n, walks, t]`, with at least two walks.
    """
    baseline = (scores.sum(1, keepdim=True) - scores) / (scores.shape[1] - 1)
    advantage = (scores - baseline).detach()
    return (scores + advantage * (log_probability - log_probability.detach())).mean(1)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    window_scale: float,
    glimpses: int,
    width: int,
    walks: int,
    spread: float,
    learning_rate: float,
    epochs: int,
    stop_loss: float,
) -> nn.Module:
    encoder = GlimpseEncoder(backbone, window_scale, pos[:1])
    ram = Ram(encoder, glimpses, width, spread).to(pos.device)
    fit_adam(
        Exploration(ram, walks),
        pos,
        neg,
        learning_rate=learning_rate,
        epochs=epochs,
        stop_loss=stop_loss,
    )
    return ram
