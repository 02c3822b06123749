"""RAM and STAWM as ten-way classifiers of MNIST, for a comparison with the errors in their papers.

    python -m benchmarks.studies.glimpses_on_mnist ram --glimpses 6 --epochs 20 --data DIR
    python -m benchmarks.studies.glimpses_on_mnist stawm --glimpses 8 --epochs 4 --data DIR

The modules that look and remember are those of the submissions with these names. Instead of the
maps of a frozen backbone they get pixels, through windows of 8 x 8, and everything is trained with
labels. Printed are the loss of each epoch, and at the end the error on the 10,000 test images and
the number of parameters.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from attnbench.adaptation.glimpses import sample
from attnbench.stimuli.preprocessing import in_unit_range
from attnbench.stimuli.sources import open_source
from attnbench.tasks import HubSource
from tests.submissions.adapted import load_program

_WINDOW_SIZE, _IMAGE_SIZE = 8, 28  # pixels
_BATCH_SIZE = 128
_WIDTH = 256
_SPREAD, _WALKS = 0.2, 2  # of RAM's locations in training, and its walks per image

Loss = Callable[[Tensor, Tensor], Tensor]


class PixelEncoder(nn.Module):
    """Encode windows of images `[n, 1, 28, 28]`, with the interface of `GlimpseEncoder`.

    Args:
        window_encoder: windows `[n, 1, 8, 8]` to `[n, features]`.
    """

    target = None

    def __init__(self, window_encoder: nn.Module) -> None:
        super().__init__()
        self.window_encoder = window_encoder
        self.size = (_WINDOW_SIZE, _WINDOW_SIZE)
        self.scale = (_WINDOW_SIZE / _IMAGE_SIZE, _WINDOW_SIZE / _IMAGE_SIZE)
        with torch.no_grad():
            self.features = window_encoder(torch.zeros(1, 1, *self.size)).shape[1]

    def forward(
        self, images: Tensor, affine: Tensor, *, align_corners: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return features `[n, features]` of windows with the transforms `[n, 2, 3]`, and zeros."""
        windows = sample(images, affine, self.size, align_corners=align_corners)
        return self.window_encoder(windows), images.new_zeros(len(images))


class LastLogits(nn.Module):
    """Map images to the ten outputs after the last glimpse.

    Args:
        glimpser: a detector, whose read-out is replaced by one with ten outputs.
    """

    def __init__(self, glimpser: nn.Module) -> None:
        super().__init__()
        glimpser.readout = nn.Linear(_WIDTH, 10)
        self.glimpser = glimpser

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.glimpser(images)
        return logits


def convolutions(*layers: tuple[int, int, int, int]) -> nn.Sequential:
    """Return convolutions with ReLU and a flat output.

    Args:
        layers: input channels, output channels, kernel size and stride of each layer.
    """
    modules: list[nn.Module] = []
    for inputs, outputs, kernel, stride in layers:
        modules += [nn.Conv2d(inputs, outputs, kernel, stride, padding=1), nn.ReLU()]
    return nn.Sequential(*modules, nn.Flatten())


def ram(glimpses: int) -> tuple[nn.Module, Loss]:
    """RAM: crops of pixels, and REINFORCE with the true class's log-probability as the reward."""
    program = load_program("ram")
    network = LastLogits(program.Ram(PixelEncoder(nn.Flatten()), glimpses, _WIDTH, _SPREAD))

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        repeated_images, repeated_labels = (
            rows.repeat_interleave(_WALKS, dim=0) for rows in (images, labels)
        )
        logits, explored = network.glimpser.gaze(repeated_images, glimpses, explore=True)
        reward = -functional.cross_entropy(logits[:, -1], repeated_labels, reduction="none")
        last = (rows.unflatten(0, (-1, _WALKS)) for rows in (reward[:, None], explored[:, -1:]))
        expected: Tensor = program.expected_score(*last)
        return -expected.mean()

    return network, loss


def stawm(glimpses: int) -> tuple[nn.Module, Loss]:
    """STAWM: separate convolutions for windows and for the context, which gives the query."""
    context = convolutions((1, 32, 4, 2), (32, 32, 4, 2), (32, 32, 4, 2))
    width = context(torch.zeros(1, 1, _IMAGE_SIZE, _IMAGE_SIZE)).shape[1]
    network = LastLogits(
        load_program("stawm").Stawm(
            PixelEncoder(convolutions((1, 32, 3, 1), (32, 64, 4, 2), (64, 128, 4, 2))),
            nn.Sequential(context, nn.Linear(width, _WIDTH)),
            glimpses,
            _WIDTH,
            _WIDTH,
        )
    )
    return network, lambda images, labels: functional.cross_entropy(network(images), labels)


def mnist(split: str, data: Path | None) -> tuple[Tensor, Tensor]:
    """Return images in [0, 1], float32 `[n, 1, 28, 28]`, and labels `[n]`."""
    definition = HubSource(kind="hub", hub="ylecun/mnist", folder="mnist", split=split)
    source = open_source(definition, data)
    pictures = np.stack([picture[:1] for picture in source.load(range(len(source.labels)))])
    return torch.from_numpy(in_unit_range(pictures)), torch.from_numpy(source.labels)


def train(network: nn.Module, loss: Loss, epochs: int, images: Tensor, labels: Tensor) -> None:
    """Train with Adam, a one-cycle rate and gradients clipped at 5, as STAWM's authors do."""
    steps = epochs * -(-len(images) // _BATCH_SIZE)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, steps)
    for epoch in range(epochs):
        started, losses = time.monotonic(), []
        for rows in torch.randperm(len(images)).split(_BATCH_SIZE):
            value = loss(images[rows], labels[rows])
            optimiser.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_value_(network.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            losses.append(value.item())
        seconds = time.monotonic() - started
        print(
            f"epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.4f}, {seconds:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def main() -> None:
    """Train one of the two and print its error."""
    parser = argparse.ArgumentParser(description="10-way error of glimpsing networks on MNIST")
    parser.add_argument("name", choices=("ram", "stawm"))
    parser.add_argument("--glimpses", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="the data folder")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    network, loss = {"ram": ram, "stawm": stawm}[options.name](options.glimpses)
    train(network, loss, options.epochs, *mnist("train", options.data))
    images, labels = mnist("test", options.data)
    with torch.no_grad():
        predicted = torch.cat([network(batch).argmax(1) for batch in images.split(1000)])
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(
        f"{options.name}, {options.glimpses} glimpses, {options.epochs} epochs, seed {options.seed}: "
        f"error {(predicted != labels).float().mean():.2%}, {parameters:,} parameters"
    )


if __name__ == "__main__":
    main()
