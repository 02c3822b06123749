"""STAWM (Harris et al. 2019): affine glimpses that are stored in a Hebb-Rosenblatt memory.

With windows A_t of the pixels and a_t the state of a recurrent network that has seen them:

    x = relu6(what(a_t) * where(A_t)),   y = η relu6(θ x + W x),   W ← W + η y xᵀ - δ W

    score after t glimpses = v . relu6(W q) + a x mean log-odds of the target in windows 1 ... t + b

where the query q is computed from a small copy of the image.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu6

from attnbench import Backbone
from attnbench.adaptation import fit_adam
from attnbench.adaptation.glimpses import (
    ContextEncoder,
    EveryBudget,
    GlimpseDetector,
    GlimpseEncoder,
    HebbRosenblatt,
    MemoryState,
    spiral,
    upright_windows,
)


class Stawm(GlimpseDetector):
    """Score images `[n, 3, h, w]` by what a memory of windows of them answers.

    The aggregating LSTM encodes a glimpse. Its state times the glimpse's location is written to the
    memory. The emitting LSTM starts from the context and places the next window. The query is
    computed from the context too.

    Args:
        encoder: encodes windows.
        context: encodes a small copy of the image as `[n, width]`.
        glimpses: the number of windows.
        width: of both LSTMs.
        memory_size: rows and columns of W.
    """

    def __init__(
        self,
        encoder: GlimpseEncoder,
        context: nn.Module,
        glimpses: int,
        width: int,
        memory_size: int,
    ) -> None:
        super().__init__(encoder, glimpses, memory_size)
        self.context = context
        self.query = nn.Linear(width, memory_size)
        self.emitter = nn.LSTMCell(width, width)
        self.to_window = nn.Linear(width, 6, bias=False)
        self.path = nn.Parameter(upright_windows(spiral(glimpses), encoder.scale).flatten(1))
        self.glimpse = nn.Linear(encoder.features, width)
        self.aggregator = nn.LSTMCell(width, width)
        self.what = nn.Linear(width, memory_size)
        self.where = nn.Linear(6, memory_size)
        self.memory = HebbRosenblatt()
        # An untrained detector looks along the spiral, whatever it sees.
        nn.init.zeros_(self.to_window.weight)

    def scores(self, images: Tensor, budget: int) -> Tensor:
        state = torch.relu(self.context(images))
        query = relu6(self.query(state))
        emitted, aggregated = (state, torch.zeros_like(state)), None
        memory: MemoryState = []
        answers, evidence = [], []
        for start in self.path[:budget]:
            emitted = self.emitter(state, emitted)
            window = self.to_window(emitted[0]) + start
            features, log_odds = self.encoder(
                images, window.unflatten(1, (2, 3)), align_corners=True
            )
            aggregated = self.aggregator(torch.relu(self.glimpse(features)), aggregated)
            state = aggregated[0]
            memory = self.memory.write(memory, relu6(self.what(state) * self.where(window)))
            answers.append(self.memory.read(memory, query))
            evidence.append(log_odds)
        return self.read(answers, evidence)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    window_scale: float,
    glimpses: int,
    width: int,
    memory_size: int,
    learning_rate: float,
    epochs: int,
    stop_loss: float,
) -> nn.Module:
    encoder = GlimpseEncoder(backbone, window_scale, pos[:1])
    context = ContextEncoder(pos[:1], width)
    stawm = Stawm(encoder, context, glimpses, width, memory_size).to(pos.device)
    fit_adam(
        EveryBudget(stawm),
        pos,
        neg,
        learning_rate=learning_rate,
        epochs=epochs,
        stop_loss=stop_loss,
    )
    return stawm
