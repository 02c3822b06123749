"""STAWM's networks: the glimpsing encoder, and the autoencoder that trains it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import relu6

from attnbench.adaptation.glimpses import HebbRosenblatt, MemoryState, sample
from attnbench.backbones.backbone import Backbone, Preprocessing
from pretraining.vae import LATENT_WIDTH

GLIMPSES = 8
STATE_WIDTH = 256  # of the recurrent layers and of the memory
FEATURE_WIDTH = 512  # of the context, and of the features of a glimpse
_GLIMPSE_SIZE, _CANVAS_SIZE = (16, 16), (32, 32)  # pixels
_DROPOUT = 0.5


class Glimpses(NamedTuple):
    """What was seen through a sequence of windows.

    Attributes:
        context: `[n, 512]`, of the whole picture.
        memory_inputs: the memory's input after each glimpse, `[n, 256]`.
        placements: the affine transform that places each glimpse's sketch on the canvas, `[n, 2, 3]`.
        windows: the affine transform of each window, `[n, 2, 3]`.
    """

    context: Tensor
    memory_inputs: list[Tensor]
    placements: list[Tensor]
    windows: list[Tensor]


class StawmEncoder(nn.Module):
    """Encodes pictures as the memory's answer after the last glimpse.

    Takes images `[n, 3, 32, 32]` in [0, 1] and returns `[n, 256]`. The attribute names are keys of
    the weights files; do not rename them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.context = nn.Sequential(
            *_convolution(3, 32, 2, 1), *_convolution(32, 32, 2, 1), *_convolution(32, 32, 2, 1)
        ).append(nn.Flatten())
        self.see = nn.Sequential(
            *_convolution(3, 32, 1, 2),
            *_convolution(32, 64, 2, 1),
            *_convolution(64, 128, 2, 1),
            *_convolution(128, 128, 2, 1),
        ).append(nn.Flatten())
        self.start = nn.Sequential(
            nn.Linear(FEATURE_WIDTH, STATE_WIDTH), nn.Dropout(_DROPOUT), nn.ReLU()
        )
        self.emitter = nn.LSTMCell(STATE_WIDTH, STATE_WIDTH)
        self.window, self.place = _transform_emitter(), _transform_emitter()
        self.glimpsed = nn.Sequential(
            nn.Linear(FEATURE_WIDTH, STATE_WIDTH), nn.Dropout(_DROPOUT), nn.ReLU()
        )
        self.aggregator = nn.LSTMCell(STATE_WIDTH, STATE_WIDTH)
        self.what = nn.Linear(STATE_WIDTH, STATE_WIDTH)
        self.where = nn.Linear(6, STATE_WIDTH)
        self.memory = HebbRosenblatt()
        self.query = nn.Linear(FEATURE_WIDTH, STATE_WIDTH)

    def glimpses(self, images: Tensor) -> Glimpses:
        """Take all glimpses of images `[n, 3, 32, 32]`."""
        context = self.context(images)
        state = self.start(context)
        emitter_state, aggregator_state = (state, torch.zeros_like(state)), None
        memory_inputs, placements, windows = [], [], []
        for _ in range(GLIMPSES):
            emitter_state = self.emitter(state, emitter_state)
            window = self.window(emitter_state[0])
            glimpse = sample(images, window.unflatten(1, (2, 3)), _GLIMPSE_SIZE, align_corners=True)
            aggregator_state = self.aggregator(self.glimpsed(self.see(glimpse)), aggregator_state)
            state = aggregator_state[0]
            memory_inputs.append(relu6(self.what(state) * self.where(window)))
            placements.append(self.place(emitter_state[0]).unflatten(1, (2, 3)))
            windows.append(window.unflatten(1, (2, 3)))
        return Glimpses(context, memory_inputs, placements, windows)

    def answers(self, context: Tensor, memory_inputs: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the memory's answer after each glimpse, `[n, 256]`.

        Args:
            context: the context `[n, 512]`, from which the query is computed.
            memory_inputs: the memory's input after each glimpse, `[n, 256]`.
        """
        # Detached: the context is trained through the glimpses only, not through the query.
        query = relu6(self.query(context.detach()))
        memory_state: MemoryState = []
        for memory_input in memory_inputs:
            memory_state = self.memory.write(memory_state, memory_input)
            yield self.memory.read(memory_state, query)

    def forward(self, images: Tensor) -> Tensor:
        seen = self.glimpses(images)
        *_, answer = self.answers(seen.context, seen.memory_inputs)
        return answer


def _convolution(inputs: int, outputs: int, stride: int, padding: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 4, stride, padding)
    nn.init.kaiming_uniform_(convolution.weight)
    return convolution, nn.ReLU()


def _transform_emitter() -> nn.Sequential:
    """Return a network from the emitter's state `[n, 256]` to an affine transform `[n, 6]`.

    It starts as the identity transform, so that the first windows show the whole picture.
    """
    last_layer = nn.Linear(STATE_WIDTH // 2, 6)
    nn.init.zeros_(last_layer.weight)
    last_layer.bias = nn.Parameter(torch.tensor([1.0, 0, 0, 0, 1, 0]))
    return nn.Sequential(
        nn.Linear(STATE_WIDTH, STATE_WIDTH // 2), nn.Dropout(_DROPOUT), nn.ReLU(), last_layer
    )


class StawmAutoencoder(nn.Module):
    """The backbone with a decoder that turns its codes into sketches on a canvas.

    Args:
        backbone: as returned by `untrained_stawm`. It is shared, not copied.
        channels: of a sketch.
    """

    def __init__(self, backbone: Backbone, channels: int = 3) -> None:
        super().__init__()
        self.backbone = backbone
        self.log_variance = nn.Linear(STATE_WIDTH, LATENT_WIDTH)
        self.sketch = _sketch_decoder(channels)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw images from glimpses of them.

        Args:
            images: float32 `[n, 3, 32, 32]` in [0, 1].

        Returns:
            Drawn images `[n, 3, 32, 32]`, and the means and log-variances after each of the 8
            glimpses, `[n, 8 * 32]`.
        """
        encoder = cast(StawmEncoder, self.backbone.stage("memory"))
        seen = encoder.glimpses(images)
        canvas = torch.zeros_like(images)
        means, log_variances = [], []
        answers = encoder.answers(seen.context, seen.memory_inputs)
        for answer, placement in zip(answers, seen.placements, strict=True):
            mean, log_variance = self.backbone.stage("code")(answer), self.log_variance(answer)
            code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
            canvas = canvas + sample(self.sketch(code), placement, _CANVAS_SIZE, align_corners=True)
            means.append(mean)
            log_variances.append(log_variance)
        return canvas.sigmoid(), torch.cat(means, 1), torch.cat(log_variances, 1)


def _sketch_decoder(channels: int) -> nn.Sequential:
    """Return a network from codes `[n, 32]` to sketches `[n, channels, 16, 16]`."""
    decoder = nn.Sequential(
        nn.Linear(LATENT_WIDTH, 512),
        nn.ReLU(),
        nn.Unflatten(1, (128, 2, 2)),
        nn.ConvTranspose2d(128, 128, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 4, 2, 1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(32, channels, 4, 1, 2),
    )
    for module in decoder:
        if isinstance(module, nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(module.weight)
    return decoder


def untrained_stawm(name: str) -> Backbone:
    """Return the backbone, initialised with seed 0: images of 32 pixels in [0, 1] to 32 means.

    Args:
        name: the backbone's name.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stages = {"memory": StawmEncoder(), "code": nn.Linear(STATE_WIDTH, LATENT_WIDTH)}
    return stawm_backbone(stages, name)


def stawm_backbone(stages: dict[str, nn.Module], name: str) -> Backbone:
    """Return a backbone with STAWM's preprocessing: 32 pixels in [0, 1], not normalised.

    Args:
        stages: the modules by stage name.
        name: the backbone's name.
    """
    preprocessing = Preprocessing(size=32, resize=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    return Backbone(stages, name=name, labels=None, preprocessing=preprocessing)
