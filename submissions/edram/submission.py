"""EDRAM (Ablavatski et al. 2017): differentiable glimpses, each placed by what was seen before."""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, fit
from attnbench.adaptation.glimpses import Evidence, Eye


class Edram(nn.Module):
    """Glimpses, one after another, at what `eye.before` gives: to outputs, evidence added.

    The locating LSTM places each window by an affine transform; it starts from the backbone's own
    outputs, and follows the recognising LSTM, which gathers what was seen where.
    """

    def __init__(self, eye: Eye, target: int | None, glimpses: int, width: int) -> None:
        super().__init__()
        self.eye = eye
        self.glimpses = glimpses
        self.context = nn.Linear(eye.outputs, width)
        self.locate = nn.LSTMCell(width, width)
        self.emit = nn.Linear(width, 6)
        self.what = nn.Linear(eye.features, width)
        self.where = nn.Linear(6, width)
        self.recognise = nn.LSTMCell(width, width)
        self.evidence = Evidence(target, width)
        # Windows start upright and central, not magnified.
        nn.init.zeros_(self.emit.weight)
        x, y = eye.share
        self.emit.bias = nn.Parameter(torch.tensor([x, 0.0, 0.0, 0.0, y, 0.0]))

    def forward(self, seen: Tensor) -> Tensor:
        outputs = self.eye.whole(seen)
        start = torch.tanh(self.context(outputs))
        located, recognised = (start, torch.zeros_like(start)), None
        states = []
        for _ in range(self.glimpses):
            window = self.emit(located[0])
            shown = self.eye.glimpse(seen, window.unflatten(1, (2, 3)))
            both = torch.relu(self.what(shown)) * torch.relu(self.where(window))
            recognised = self.recognise(both, recognised)
            located = self.locate(recognised[0], located)
            states.append(recognised[0])
        return self.evidence(outputs, torch.stack(states).sum(0))


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    after: str,
    share: float,
    glimpses: int,
    width: int,
    learning_rate: float,
    epochs: int,
    enough: float,
) -> nn.Module:
    eye = Eye(backbone, after, share, pos[:1])
    edram = Edram(eye, backbone.target, glimpses, width).to(pos.device)
    detector = Detector(edram, backbone.target, pos[:1], frozen=eye.before)
    fit(
        detector.suffix,
        *detector.features(pos, neg),
        learning_rate=learning_rate,
        epochs=epochs,
        enough=enough,
    )
    return detector
