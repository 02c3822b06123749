"""EDRAM (Ablavatski et al. 2017): differentiable glimpses that a recurrent network places.

With windows A_t on the feature maps, and g_t the features of a window:

    A_t = E r_t,   x_t = relu(V g_t) * relu(U A_t),   h_t = LSTM(x_t),   r_{t+1} = LSTM(h_t)

    score = the backbone's log-odds of the target + v . (h_1 + ... + h_T) + b
"""

import torch
from torch import Tensor, nn

from attnbench import Backbone
from attnbench.adaptation import Detector, fit_adam
from attnbench.adaptation.glimpses import GlimpseEncoder, GlimpseReadout


class Edram(nn.Module):
    """Map feature maps, from `encoder.lower_stages`, to the outputs with the evidence of glimpses.

    The locating LSTM places each window by an affine transform. It starts from the backbone's
    outputs and follows the recognising LSTM, which accumulates what was seen where.

    Args:
        encoder: encodes the whole maps and windows on them.
        target: the target's index among the backbone's outputs, or None.
        glimpses: T.
        width: of both LSTMs.
    """

    def __init__(
        self, encoder: GlimpseEncoder, target: int | None, glimpses: int, width: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.glimpses = glimpses
        self.context = nn.Linear(encoder.outputs, width)
        self.locator = nn.LSTMCell(width, width)
        self.to_window = nn.Linear(width, 6)
        self.what = nn.Linear(encoder.features, width)
        self.where = nn.Linear(6, width)
        self.recogniser = nn.LSTMCell(width, width)
        self.readout = GlimpseReadout(target, width)
        # Windows start upright, central and at the given scale.
        nn.init.zeros_(self.to_window.weight)
        x, y = encoder.scale
        self.to_window.bias = nn.Parameter(torch.tensor([x, 0.0, 0.0, 0.0, y, 0.0]))

    def forward(self, maps: Tensor) -> Tensor:
        outputs = self.encoder.whole(maps)
        context = torch.tanh(self.context(outputs))
        located, recognised = (context, torch.zeros_like(context)), None
        states = []
        for _ in range(self.glimpses):
            window = self.to_window(located[0])
            glimpse = self.encoder.glimpse(maps, window.unflatten(1, (2, 3)))
            inputs = torch.relu(self.what(glimpse)) * torch.relu(self.where(window))
            recognised = self.recogniser(inputs, recognised)
            located = self.locator(recognised[0], located)
            states.append(recognised[0])
        return self.readout(outputs, torch.stack(states).sum(0))


def adapt(
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    after: str,
    window_scale: float,
    glimpses: int,
    width: int,
    learning_rate: float,
    epochs: int,
    stop_loss: float,
) -> nn.Module:
    encoder = GlimpseEncoder(backbone, after, window_scale, pos[:1])
    edram = Edram(encoder, backbone.target, glimpses, width).to(pos.device)
    # The read-out has a bias.
    detector = Detector(
        edram, backbone.target, pos[:1], frozen=encoder.lower_stages, threshold=False
    )
    fit_adam(
        detector.scorer,
        *detector.frozen_features(pos, neg),
        learning_rate=learning_rate,
        epochs=epochs,
        stop_loss=stop_loss,
    )
    return detector
