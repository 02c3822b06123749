"""RAM and STAWM as ten-way classifiers of MNIST, for a comparison with the errors in their papers.

    python -m benchmarks.studies.glimpses_on_mnist ram --glimpses 6 --epochs 20 --data DIR
    python -m benchmarks.studies.glimpses_on_mnist ram-as-published --glimpses 6 --epochs 20 --data DIR
    python -m benchmarks.studies.glimpses_on_mnist stawm --glimpses 8 --epochs 4 --data DIR

The modules of `ram` and `stawm` that look and remember are those of the submissions with these names.
Instead of the maps of a frozen backbone they get pixels, through windows of 8 x 8, and everything is
trained with labels. `ram-as-published` is the network, the reward and the training of RAM's paper.
Printed are the loss of each epoch, and at the end the error on the 10,000 test images and the number of
parameters.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from attnbench.adaptation.glimpses import sample, upright_windows
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


class PublishedRam(nn.Module):
    """RAM as in its paper (Mnih et al. 2014, arXiv 1406.6247, section 4).

    A glimpse is encoded by two layers for the window and two for its place, the core is a recurrent
    layer of rectifiers, and the reward is 1 if the answer is right. A baseline is learned.

    Args:
        glimpses: the number of windows.
    """

    def __init__(self, glimpses: int) -> None:
        super().__init__()
        self.glimpses = glimpses
        self.scale = (_WINDOW_SIZE / _IMAGE_SIZE,) * 2
        self.window = nn.Sequential(nn.Flatten(), nn.Linear(_WINDOW_SIZE**2, 128), nn.ReLU())
        self.place = nn.Sequential(nn.Linear(2, 128), nn.ReLU())
        self.of_window, self.of_place = nn.Linear(128, _WIDTH), nn.Linear(128, _WIDTH)
        self.core = nn.RNNCell(_WIDTH, _WIDTH, nonlinearity="relu")
        self.locator, self.baseline = nn.Linear(_WIDTH, 2), nn.Linear(_WIDTH, 1)
        self.readout = nn.Linear(_WIDTH, 10)

    def gaze(self, images: Tensor, explore: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Look at all windows; the first is central, or anywhere if exploring.

        Returns:
            Logits `[n, 10]`, and for each place that was chosen its log-probability and the reward
            expected before it, `[n, glimpses - 1]` both.
        """
        state = images.new_zeros(len(images), _WIDTH)
        location = images.new_zeros(len(images), 2)
        if explore:
            location.uniform_(-1, 1)
        log_probabilities, expected = [], []
        for number in range(self.glimpses):
            windows = upright_windows(location, self.scale)
            seen = sample(images, windows, (_WINDOW_SIZE, _WINDOW_SIZE))
            glimpse = self.of_window(self.window(seen)) + self.of_place(self.place(location))
            state = self.core(torch.relu(glimpse), state)
            if number == self.glimpses - 1:
                break
            # Gradients of the reward train the place, and not what was seen before.
            mean = torch.tanh(self.locator(state.detach()))
            drawn = (mean + _SPREAD * torch.randn_like(mean) if explore else mean).detach()
            log_probabilities.append(-((drawn - mean) ** 2).sum(1) / (2 * _SPREAD**2))
            expected.append(self.baseline(state.detach())[:, 0])
            location = drawn.clamp(-1, 1)
        return self.readout(state), torch.stack(log_probabilities, 1), torch.stack(expected, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.gaze(images, explore=False)[0]

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the paper's hybrid loss: cross-entropy, REINFORCE and the baseline's error."""
        logits, log_probability, expected = self.gaze(images, explore=True)
        reward = (logits.argmax(1) == labels).float()[:, None]
        advantage = (reward - expected).detach()
        reinforce = -(advantage * log_probability).sum(1).mean()
        error = functional.mse_loss(expected, reward.expand_as(expected))
        return functional.cross_entropy(logits, labels) + reinforce + error


def ram_as_published(glimpses: int) -> tuple[nn.Module, Loss]:
    """RAM as in its paper."""
    network = PublishedRam(glimpses)
    return network, network.loss


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


@cache
def mnist(split: str, data: Path | None) -> tuple[Tensor, Tensor]:
    """Return images in [0, 1], float32 `[n, 1, 28, 28]`, and labels `[n]`."""
    definition = HubSource(kind="hub", hub="ylecun/mnist", folder="mnist", split=split)
    source = open_source(definition, data)
    pictures = np.stack([picture[:1] for picture in source.load(range(len(source.labels)))])
    return torch.from_numpy(in_unit_range(pictures)), torch.from_numpy(source.labels)


def train(network: nn.Module, loss: Loss, epochs: int, images: Tensor, labels: Tensor) -> None:
    """Train as the authors did.

    STAWM and our RAM: Adam, a one-cycle rate, and gradients clipped at 5. RAM as published: SGD with
    momentum 0.9, 20 images a step, and a rate that falls linearly from 0.01 to 0.
    """
    published = isinstance(network, PublishedRam)
    batch = 20 if published else _BATCH_SIZE
    steps = epochs * -(-len(images) // batch)
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    if published:
        optimiser = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
        schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    else:
        optimiser = torch.optim.Adam(network.parameters(), 1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, steps)
    for epoch in range(epochs):
        started, losses = time.monotonic(), []
        for rows in torch.randperm(len(images)).split(batch):
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


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of right answers."""
    predicted = torch.cat([network(batch).argmax(1) for batch in images.split(1000)])
    return (predicted == labels).float().mean().item()


def main() -> None:
    """Train one of the networks and print its error."""
    networks = {"ram": ram, "ram-as-published": ram_as_published, "stawm": stawm}
    parser = argparse.ArgumentParser(description="10-way error of glimpsing networks on MNIST")
    parser.add_argument("name", choices=sorted(networks))
    parser.add_argument("--glimpses", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="the data folder")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    network, loss = networks[options.name](options.glimpses)
    train(network, loss, options.epochs, *mnist("train", options.data))
    images, labels = mnist("test", options.data)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(
        f"{options.name}, {options.glimpses} glimpses, {options.epochs} epochs, seed {options.seed}: "
        f"error {1 - accuracy(network, images, labels):.2%}, {parameters:,} parameters"
    )


if __name__ == "__main__":
    main()
