"""RAM and STAWM as ten-way classifiers of MNIST, to stand beside the errors that their papers give.

    python -m benchmarks.studies.glimpses_on_mnist ram --glimpses 6 --epochs 20 --data ../shared/data
    python -m benchmarks.studies.glimpses_on_mnist stawm --glimpses 8 --epochs 4 --data ../shared/data

What looks and remembers are the modules of the submissions of these names. In place of a frozen
backbone's maps they see pixels, through windows of 8 x 8, and all is trained, with labels. Prints each
epoch's loss, and at the end the error on the 10,000 test images and the number of parameters.
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
from tests.submissions.adapted import module_of

_WINDOW, _PICTURE = 8, 28  # pixels
_BATCH = 128
_WIDTH = 256
_SPREAD, _WALKS = 0.2, 2  # of RAM's places while it learns, and how often it looks around

Loss = Callable[[Tensor, Tensor], Tensor]


class PixelEye(nn.Module):
    """Looks at pictures `[n, 1, 28, 28]` as a whole and through windows, as `Eye` does at maps.

    Args:
        context: pictures to `[n, outputs]`.
        see: windows `[n, 1, 8, 8]` to `[n, features]`.
    """

    def __init__(self, context: nn.Module, see: nn.Module) -> None:
        super().__init__()
        self.whole, self.see = context, see
        self.share = (_WINDOW / _PICTURE, _WINDOW / _PICTURE)
        with torch.no_grad():
            self.outputs = context(torch.zeros(1, 1, _PICTURE, _PICTURE)).shape[1]
            self.features = see(torch.zeros(1, 1, _WINDOW, _WINDOW)).shape[1]

    def glimpse(self, seen: Tensor, affine: Tensor, *, align_corners: bool = False) -> Tensor:
        """Features `[n, features]` through windows `[n, 2, 3]`."""
        window = sample(seen, affine, (_WINDOW, _WINDOW), align_corners=align_corners)
        features: Tensor = self.see(window)
        return features


class Nothing(nn.Module):
    """Pictures to `[n, 0]`: no context."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :0]


class State(nn.Module):
    """Pictures to what has been gathered from glimpses, `[n, 256]`, without the context beside it."""

    def __init__(self, glimpser: nn.Module) -> None:
        super().__init__()
        self.glimpser = glimpser

    def forward(self, images: Tensor) -> Tensor:
        gathered: Tensor = self.glimpser(images)[:, -_WIDTH:]
        return gathered


def convolutions(*layers: tuple[int, int, int, int]) -> nn.Sequential:
    """Layers of input and output channels, kernel and stride, with ReLU; flat at the end."""
    modules: list[nn.Module] = []
    for inputs, outputs, kernel, stride in layers:
        modules += [nn.Conv2d(inputs, outputs, kernel, stride, padding=1), nn.ReLU()]
    return nn.Sequential(*modules, nn.Flatten())


def ram(glimpses: int) -> tuple[nn.Module, Loss]:
    """RAM: crops of pixels, REINFORCE with what the true class's log-probability is as reward."""
    module = module_of("ram")
    looking = module.Ram(PixelEye(Nothing(), nn.Flatten()), None, glimpses, _WIDTH, _SPREAD)
    classes = nn.Linear(_WIDTH, 10)

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        truth = labels.repeat_interleave(_WALKS)

        def right(state: Tensor) -> Tensor:
            return -functional.cross_entropy(classes(state), truth, reduction="none")

        reached: Tensor = module.Walks(looking, right, _WALKS)(images)
        return -reached.mean()

    return nn.Sequential(looking, classes), loss


def stawm(glimpses: int) -> tuple[nn.Module, Loss]:
    """STAWM: convolutions see a window, others the context that places it and asks the memory."""
    eye = PixelEye(
        convolutions((1, 32, 4, 2), (32, 32, 4, 2), (32, 32, 4, 2)),
        convolutions((1, 32, 3, 1), (32, 64, 4, 2), (64, 128, 4, 2)),
    )
    looking = State(module_of("stawm").Stawm(eye, None, glimpses, _WIDTH, _WIDTH))
    network = nn.Sequential(looking, nn.Linear(_WIDTH, 10))
    return network, lambda images, labels: functional.cross_entropy(network(images), labels)


def mnist(split: str, data: Path | None) -> tuple[Tensor, Tensor]:
    """Pictures in [0, 1], float32 `[N, 1, 28, 28]`, and labels `[N]`."""
    definition = HubSource(kind="hub", hub="ylecun/mnist", folder="mnist", split=split)
    source = open_source(definition, data)
    pictures = np.stack([picture[:1] for picture in source.load(range(len(source.labels)))])
    return torch.from_numpy(in_unit_range(pictures)), torch.from_numpy(source.labels)


def train(network: nn.Module, loss: Loss, epochs: int, images: Tensor, labels: Tensor) -> None:
    """Adam with a one-cycle rate, the largest gradient of a parameter 5, as STAWM's authors have it."""
    steps = epochs * -(-len(images) // _BATCH)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, steps)
    for epoch in range(epochs):
        began, losses = time.monotonic(), []
        for rows in torch.randperm(len(images)).split(_BATCH):
            value = loss(images[rows], labels[rows])
            optimiser.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_value_(network.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            losses.append(value.item())
        took = time.monotonic() - began
        print(
            f"epoch {epoch + 1} of {epochs}: loss {np.mean(losses):.4f}, {took:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def main() -> None:
    """Train one of them and print its error."""
    parser = argparse.ArgumentParser(
        description="10-way error on MNIST of a network that glimpses."
    )
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
        said = torch.cat([network(part).argmax(1) for part in images.split(1000)])
    parameters = sum(each.numel() for each in network.parameters())
    print(
        f"{options.name}, {options.glimpses} glimpses, {options.epochs} epochs, seed {options.seed}: "
        f"error {(said != labels).float().mean():.2%}, {parameters:,} parameters"
    )


if __name__ == "__main__":
    main()
