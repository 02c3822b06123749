"""STAWM (Harris et al. 2019): affine glimpses that are stored in a Hebb-Rosenblatt memory.

With windows A_t on the feature maps and a_t the state of a recurrent network that has seen them:

    x = relu6(what(a_t) * where(A_t)),   y = η relu6(θ x + W x),   W ← W + η y xᵀ - δ W

    score = the backbone's log-odds of the target + v . relu6(W q) + b

where the query q is computed from the backbone's outputs.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu6

from attnbench import Backbone
from attnbench.adaptation import Detector, fit_adam
from attnbench.adaptation.glimpses import (
    GlimpseEncoder,
    GlimpseReadout,
    HebbRosenblatt,
    MemoryState,
)


class Stawm(nn.Module):
    """Map feature maps, from `encoder.lower_stages`, to the outputs with what the memory answers.

    The aggregating LSTM encodes a glimpse. Its state times the glimpse's location is written to the
    memory. The emitting LSTM starts from the backbone's outputs and places the next window. The
    query at the end is computed from the same outputs.

    Args:
        encoder: encodes the whole maps and windows on them.
        target: the target's index among the backbone's outputs, or None.
        glimpses: the number of windows.
        width: of both LSTMs.
        memory_size: rows and columns of W.
    """

    def __init__(
        self,
        encoder: GlimpseEncoder,
        target: int | None,
        glimpses: int,
        width: int,
        memory_size: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.glimpses = glimpses
        self.context = nn.Linear(encoder.outputs, width)
        self.query = nn.Linear(encoder.outputs, memory_size)
        self.emitter = nn.LSTMCell(width, width)
        self.to_window = nn.Linear(width, 6)
        self.glimpse = nn.Linear(encoder.features, width)
        self.aggregator = nn.LSTMCell(width, width)
        self.what = nn.Linear(width, memory_size)
        self.where = nn.Linear(6, memory_size)
        self.memory = HebbRosenblatt()
        self.readout = GlimpseReadout(target, memory_size)
        # Windows start upright, central and at the given scale.
        nn.init.zeros_(self.to_window.weight)
        x, y = encoder.scale
        self.to_window.bias = nn.Parameter(torch.tensor([x, 0.0, 0.0, 0.0, y, 0.0]))

    def forward(self, maps: Tensor) -> Tensor:
        outputs = self.encoder.whole(maps)
        query = relu6(self.query(outputs))
        state = torch.relu(self.context(outputs))
        emitted, aggregated = (state, torch.zeros_like(state)), None
        memory: MemoryState = []
        for _ in range(self.glimpses):
            emitted = self.emitter(state, emitted)
            window = self.to_window(emitted[0])
            features = self.encoder.glimpse(maps, window.unflatten(1, (2, 3)), align_corners=True)
            aggregated = self.aggregator(torch.relu(self.glimpse(features)), aggregated)
            state = aggregated[0]
            memory = self.memory.write(memory, relu6(self.what(state) * self.where(window)))
        return self.readout(outputs, self.memory.read(memory, query))


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    after: str,
    window_scale: float,
    glimpses: int,
    width: int,
    memory_size: int,
    learning_rate: float,
    epochs: int,
    stop_loss: float,
) -> nn.Module:
    encoder = GlimpseEncoder(backbone, after, window_scale, pos[:1])
    stawm = Stawm(encoder, backbone.target, glimpses, width, memory_size).to(pos.device)
    # The read-out has a bias.
    detector = Detector(
        stawm, backbone.target, pos[:1], frozen=encoder.lower_stages, threshold=False
    )
    fit_adam(
        detector.scorer,
        *detector.frozen_features(pos, neg),
        learning_rate=learning_rate,
        epochs=epochs,
        stop_loss=stop_loss,
    )
    return detector
