"""RAM (Mnih et al. 2014): hard glimpses; where to look is learned by REINFORCE."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, fit
from attnbench.adaptation.glimpses import Evidence, Eye, upright


class Ram(nn.Module):
    """Crops, one after another, of what `eye.before` gives: to outputs, evidence added.

    A place to look at is drawn from a normal distribution about what the core says; to predict, it
    is the mean. A crop is hard: nothing about it has a gradient with respect to its place.
    """

    def __init__(
        self, eye: Eye, target: int | None, glimpses: int, width: int, spread: float
    ) -> None:
        super().__init__()
        self.eye = eye
        self.glimpses = glimpses
        self.spread = spread
        self.place = nn.Linear(width, 2)
        self.what = nn.Linear(eye.features, width)
        self.where = nn.Linear(2, width)
        self.core = nn.RNNCell(width, width, nonlinearity="tanh")
        self.evidence = Evidence(target, width)
        # It starts by looking at the centre.
        nn.init.zeros_(self.place.weight)
        nn.init.zeros_(self.place.bias)

    def crop(self, seen: Tensor, places: Tensor) -> Tensor:
        """A crop's features `[n, features]`, at places `[n, 2]` from -1 to 1."""
        with torch.no_grad():
            return self.eye.glimpse(seen, upright(places, self.eye.share))

    def gaze(self, seen: Tensor, explore: bool) -> tuple[Tensor, Tensor]:
        """The core's last state `[n, width]`, and the log-probability of the places `[n]`, but for a
        constant."""
        state = seen.new_zeros(len(seen), self.core.hidden_size)
        log_probability = seen.new_zeros(len(seen))
        for _ in range(self.glimpses):
            mean = torch.tanh(self.place(state.detach()))
            drawn = mean + self.spread * torch.randn_like(mean) if explore else mean
            drawn = drawn.detach()
            log_probability = log_probability - ((drawn - mean) ** 2).sum(1) / (2 * self.spread**2)
            places = drawn.clamp(-1, 1)
            shown = self.crop(seen, places)
            state = self.core(torch.relu(self.what(shown) + self.where(places)), state)
        return state, log_probability

    def forward(self, seen: Tensor) -> Tensor:
        return self.evidence(self.eye.whole(seen), self.gaze(seen, explore=False)[0])


class Walks(nn.Module):
    """What `eye.before` gives, to scores expected when looking around, `[n]`: to train by.

    Args:
        read: what makes a score of a `Ram`'s outputs.
        walks: how many for each image, at least two.
    """

    def __init__(self, ram: Ram, read: nn.Module, walks: int) -> None:
        super().__init__()
        self.ram, self.read, self.walks = ram, read, walks

    def forward(self, seen: Tensor) -> Tensor:
        ram, walks = self.ram, self.walks
        state, log_probability = ram.gaze(seen.repeat_interleave(walks, dim=0), explore=True)
        outputs = ram.eye.whole(seen).repeat_interleave(walks, dim=0)
        scores = self.read(ram.evidence(outputs, state))
        return expected(scores.unflatten(0, (-1, walks)), log_probability.unflatten(0, (-1, walks)))


def expected(scores: Tensor, log_probability: Tensor) -> Tensor:
    """The expected score of each image, with the gradient that REINFORCE estimates.

    grad E[s] = E[grad s + (s - b) grad log p]; the baseline b of a walk is the mean score of the
    image's other walks, which does not depend on this one.

    Args:
        scores, log_probability: `[n, walks]`, at least two.

    Returns:
        `[n]`: mean scores.
    """
    others = (scores.sum(1, keepdim=True) - scores) / (scores.shape[1] - 1)
    advantage = (scores - others).detach()
    return (scores + advantage * (log_probability - log_probability.detach())).mean(1)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    after: str,
    share: float,
    glimpses: int,
    width: int,
    walks: int,
    spread: float,
    learning_rate: float,
    epochs: int,
    enough: float,
) -> nn.Module:
    eye = Eye(backbone, after, share, pos[:1])
    ram = Ram(eye, backbone.target, glimpses, width, spread).to(pos.device)
    detector = Detector(ram, backbone.target, pos[:1], frozen=eye.before)
    fit(
        Walks(ram, detector.read, walks),
        *detector.features(pos, neg),
        learning_rate=learning_rate,
        epochs=epochs,
        enough=enough,
    )
    return detector
