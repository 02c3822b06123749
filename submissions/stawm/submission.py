"""STAWM (Harris et al. 2019): affine glimpses, kept in a Hebb-Rosenblatt memory."""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu6

from attnbench import Backbone
from attnbench.adaptation import Detector, fit
from attnbench.adaptation.glimpses import Evidence, Eye, HebbRosenblatt, Written


class Stawm(nn.Module):
    """Glimpses, one after another, at what `eye.before` gives: to outputs, evidence added.

    What the aggregating LSTM makes of a glimpse, times where it was, is written into the memory. The
    emitting LSTM, which starts from the backbone's own outputs, places the next window; the same
    outputs ask the memory at the end.
    """

    def __init__(self, eye: Eye, target: int | None, glimpses: int, width: int, size: int) -> None:
        super().__init__()
        self.eye = eye
        self.glimpses = glimpses
        self.context = nn.Linear(eye.outputs, width)
        self.query = nn.Linear(eye.outputs, size)
        self.emitter = nn.LSTMCell(width, width)
        self.emit = nn.Linear(width, 6)
        self.glimpsed = nn.Linear(eye.features, width)
        self.aggregator = nn.LSTMCell(width, width)
        self.what = nn.Linear(width, size)
        self.where = nn.Linear(6, size)
        self.memory = HebbRosenblatt()
        self.evidence = Evidence(target, size)
        # Windows start upright and central, not magnified.
        nn.init.zeros_(self.emit.weight)
        x, y = eye.share
        self.emit.bias = nn.Parameter(torch.tensor([x, 0.0, 0.0, 0.0, y, 0.0]))

    def forward(self, seen: Tensor) -> Tensor:
        outputs = self.eye.whole(seen)
        query = relu6(self.query(outputs))
        last = torch.relu(self.context(outputs))
        emitted, aggregated = (last, torch.zeros_like(last)), None
        written: Written = []
        for _ in range(self.glimpses):
            emitted = self.emitter(last, emitted)
            window = self.emit(emitted[0])
            shown = self.eye.glimpse(seen, window.unflatten(1, (2, 3)), align_corners=True)
            aggregated = self.aggregator(torch.relu(self.glimpsed(shown)), aggregated)
            last = aggregated[0]
            written = self.memory.write(written, relu6(self.what(last) * self.where(window)))
        return self.evidence(outputs, self.memory.read(written, query))


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    after: str,
    share: float,
    glimpses: int,
    width: int,
    memory: int,
    learning_rate: float,
    epochs: int,
    enough: float,
) -> nn.Module:
    eye = Eye(backbone, after, share, pos[:1])
    stawm = Stawm(eye, backbone.target, glimpses, width, memory).to(pos.device)
    detector = Detector(stawm, backbone.target, pos[:1], frozen=eye.before)
    fit(
        detector.suffix,
        *detector.features(pos, neg),
        learning_rate=learning_rate,
        epochs=epochs,
        enough=enough,
    )
    return detector
