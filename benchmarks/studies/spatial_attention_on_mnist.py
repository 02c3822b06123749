"""Spatial attention on noisy MNIST, trained from scratch as in a post (Vatterott 2016).

    python -m benchmarks.studies.spatial_attention_on_mnist --data DIR [--seeds 2] [--jobs 2] [--write]

The network is the post's: 9,898 parameters, a convolution, and a second one whose input is multiplied
by a map. The map is one of three:

- `ones`: the post's control;
- `constant`: 1/15 at each position, which is what the published code computes (see the README of
  `spatial_attention_as_published`);
- `class activations`: what the post describes, with the same mean of 1/15.

Each network is trained on clean or on noisy digits and tested on both. The published figures were
measured on clean test images, because Keras adds its noise in training only.

Different from the post are the size of a step (16 images instead of one, at ten times the rate, which
does not decay) and the number of training images. `--write` writes the table in docs/reproductions.md.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.studies.glimpses_on_mnist import accuracy, mnist
from benchmarks.studies.pages import DOCS, write_block

MAPS = ("ones", "constant", "class activations")
# Standard deviations for pixels in [0, 1]. The first is that of the published code: 2.5 of 255.
SIGMAS = (2.5 / 255, 0.25, 1.0)
PAGE, BLOCK = DOCS / "reproductions.md", "spatial attention on MNIST"
_MEAN_GAIN = 1 / 15  # one over the height of the second convolution's maps
_CLASSES, _CHANNELS = 10, 32
_BATCH, _RATE = 16, 0.1


class Network(nn.Module):
    """Map digits `[n, 1, 28, 28]` with pixels in [0, 255] to logits `[n, 10]`.

    Args:
        map_name: one of `MAPS`.
    """

    def __init__(self, map_name: str) -> None:
        super().__init__()
        self.map_name = map_name
        self.conv_1 = nn.Conv2d(1, _CHANNELS, 3, padding=1)
        self.conv_2 = nn.Conv2d(_CHANNELS, _CHANNELS, 3)
        self.dense = nn.Linear(_CHANNELS, _CLASSES)
        # Keras' "uniform" and, for convolutions, "glorot_uniform".
        nn.init.uniform_(self.dense.weight, -0.05, 0.05)
        for layer in (self.conv_1, self.conv_2):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.conv_1, self.conv_2, self.dense):
            nn.init.zeros_(layer.bias)
        # Keras' alpha of 1e-4 is per channel. PyTorch divides alpha by the number of channels.
        self.normalise = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)

    def gains(self, features: Tensor) -> Tensor:
        """Return gains for the second convolution's input: `[n, 1, 17, 17]`, or one for all."""
        if self.map_name == "ones":
            return features.new_ones(1, 1, 1, 1)
        if self.map_name == "constant":
            return features.new_full((1, 1, 1, 1), _MEAN_GAIN)
        maps = torch.relu(self.conv_2(features))
        positions = maps.permute(0, 2, 3, 1)
        evidence = torch.relu(self.dense(positions)).mean(dim=3)[:, None]
        gains = _MEAN_GAIN * evidence / evidence.mean(dim=(2, 3), keepdim=True).clamp_min(1e-9)
        return functional.pad(gains, (1, 1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        features = functional.max_pool2d(torch.relu(self.conv_1(images)), 3, 2)
        features = functional.pad(self.normalise(features), (2, 2, 2, 2))
        maps = torch.relu(self.conv_2(features * self.gains(features)))
        maps = self.normalise(functional.max_pool2d(maps, 3, 2))
        # The zeros that the post pads with count in its average.
        averages = functional.pad(maps, (2, 2, 2, 2)).mean(dim=(2, 3))
        logits: Tensor = self.dense(averages)
        return logits


class Row(NamedTuple):
    """Accuracies of one trained network, on clean digits and on noisy ones."""

    map_name: str
    sigma: float
    seed: int
    trained: str
    clean: float
    noisy: float


def with_noise(images: Tensor, sigma: float) -> Tensor:
    """Add Gaussian noise to pixels in [0, 255], with a standard deviation for pixels in [0, 1]."""
    return images + 255 * sigma * torch.randn_like(images)


def train(network: nn.Module, images: Tensor, labels: Tensor, sigma: float, epochs: int) -> None:
    """Train with new noise in each step, by SGD with the post's Nesterov momentum."""
    optimiser = torch.optim.SGD(network.parameters(), _RATE, momentum=0.5, nesterov=True)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(_BATCH):
            logits = network(with_noise(images[rows], sigma))
            loss = functional.cross_entropy(logits, labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()


def measure(cell: tuple[str, float | None, int, int, int, Path | None]) -> list[Row]:
    """Train a network on clean digits (no sigma) or on noisy ones, and test it.

    A network trained on clean digits has a row for each sigma of the test images.
    """
    map_name, sigma, seed, train_images, epochs, data = cell
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = Network(map_name)
    images, labels = mnist("train", data)
    # The source is ordered by class.
    chosen = torch.randperm(len(labels))[:train_images]
    images, labels = 255 * images[chosen], labels[chosen]
    train(network, images, labels, sigma or 0.0, epochs)
    test, truth = mnist("test", data)
    test = 255 * test
    trained = "clean" if sigma is None else "noisy"
    clean = accuracy(network, test, truth)
    return [
        Row(
            map_name, level, seed, trained, clean, accuracy(network, with_noise(test, level), truth)
        )
        for level in (SIGMAS if sigma is None else (sigma,))
    ]


def table(rows: Sequence[Row]) -> str:
    """Return the table in Markdown: means over seeds, with the lowest and the highest."""

    def text(map_name: str, sigma: float, trained: str, tested: str) -> str:
        found = [
            getattr(row, tested)
            for row in rows
            if (row.map_name, row.sigma, row.trained) == (map_name, sigma, trained)
        ]
        return f"{sum(found) / len(found):.1%} ({min(found):.1%} to {max(found):.1%})"

    conditions = (("clean", "clean"), ("noisy", "clean"), ("clean", "noisy"), ("noisy", "noisy"))
    heads = ["σ", "map", *(f"{trained} → {tested}" for trained, tested in conditions)]
    body = [
        [f"{sigma:.2g}", name, *(text(name, sigma, *condition) for condition in conditions)]
        for sigma, name in itertools.product(sorted({row.sigma for row in rows}), MAPS)
    ]
    return tabulate(body, heads, tablefmt="github", disable_numparse=True)


def main() -> None:
    """Train and test all networks, and print the table."""
    parser = argparse.ArgumentParser(description="spatial attention on noisy MNIST, from scratch")
    parser.add_argument("--data", type=Path, help="the folder with MNIST")
    parser.add_argument("--images", type=int, default=15_000, help="training images")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1, help="processes, with one thread each")
    parser.add_argument("--write", action="store_true", help="write it to docs/reproductions.md")
    options = parser.parse_args()
    size = (options.images, options.epochs, options.data)
    cells = [
        (name, sigma, seed, *size)
        for seed, name, sigma in itertools.product(range(options.seeds), MAPS, (None, *SIGMAS))
    ]
    rows = []
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for found in pool.imap_unordered(measure, cells):
            rows += found
            print(*found, sep="\n", flush=True)
    lines = (
        f"Ten-way accuracy on the 10,000 test images. Training: {options.images:,} images, "
        f"{options.epochs} epochs, {options.seeds} seeds.\n"
        "Columns: images in training → images in test. σ is for pixels in [0, 1].\n\n"
        f"{table(rows)}"
    )
    print(lines)
    if options.write:
        write_block(PAGE, BLOCK, lines)


if __name__ == "__main__":
    main()
