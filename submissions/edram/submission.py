"""EDRAM (Ablavatski et al. 2017): differentiable glimpses that a recurrent network places.

With windows A_t of the pixels, g_t the features of a window, and r_1 from a small copy of the image:

    A_t = E r_t + p_t,   x_t = relu(V g_t) * relu(U A_t),   h_t = LSTM(x_t),   r_{t+1} = LSTM(h_t)

    score after t glimpses = v . h_t + a x mean log-odds of the target in windows 1 ... t + b
"""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import fit_adam
from attnbench.adaptation.glimpses import (
    ContextEncoder,
    EveryBudget,
    GlimpseDetector,
    GlimpseEncoder,
    spiral,
    upright_windows,
)


class Edram(GlimpseDetector):
    """Score images `[n, 3, h, w]` by windows of them.

    The locating LSTM places each window by an affine transform. It starts from the context and
    follows the recognising LSTM, which accumulates what was seen where. The context has no other
    part in the score.

    Args:
        encoder: encodes windows.
        context: encodes a small copy of the image as `[n, width]`.
        glimpses: T.
        width: of both LSTMs.
    """

    def __init__(
        self, encoder: GlimpseEncoder, context: nn.Module, glimpses: int, width: int
    ) -> None:
        super().__init__(encoder, glimpses, width)
        self.context = context
        self.locator = nn.LSTMCell(width, width)
        self.to_window = nn.Linear(width, 6, bias=False)
        self.path = nn.Parameter(upright_windows(spiral(glimpses), encoder.scale).flatten(1))
        self.what = nn.Linear(encoder.features, width)
        self.where = nn.Linear(6, width)
        self.recogniser = nn.LSTMCell(width, width)
        # An untrained detector looks along the spiral, whatever it sees.
        nn.init.zeros_(self.to_window.weight)

    def scores(self, images: Tensor, budget: int) -> Tensor:
        context = torch.tanh(self.context(images))
        located, recognised = (context, torch.zeros_like(context)), None
        states, evidence = [], []
        for start in self.path[:budget]:
            window = self.to_window(located[0]) + start
            features, log_odds = self.encoder(images, window.unflatten(1, (2, 3)))
            inputs = torch.relu(self.what(features)) * torch.relu(self.where(window))
            recognised = self.recogniser(inputs, recognised)
            located = self.locator(recognised[0], located)
            states.append(recognised[0])
            evidence.append(log_odds)
        return self.read(states, evidence)


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    window_scale: float,
    glimpses: int,
    width: int,
    learning_rate: float,
    epochs: int,
    stop_loss: float,
) -> nn.Module:
    encoder = GlimpseEncoder(backbone, window_scale, pos[:1])
    edram = Edram(encoder, ContextEncoder(pos[:1], width), glimpses, width).to(pos.device)
    fit_adam(
        EveryBudget(edram),
        pos,
        neg,
        learning_rate=learning_rate,
        epochs=epochs,
        stop_loss=stop_loss,
    )
    return edram
