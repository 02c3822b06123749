"""The small VGG-style networks that attnbench ships, trained by `attnbench.backbones.pretrain`."""

from __future__ import annotations

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.errors import AttnbenchError
from attnbench.resources import weights_folder

_DIGITS = tuple(str(digit) for digit in range(10))
SHIPPED = ("figures-vgg", "digits-cnn", "mnist-cnn")


def load_shipped(name: str, *, untrained: bool = False) -> Backbone:
    """A shipped network by name. Raises AttnbenchError for an unknown name or damaged weights."""
    if name not in SHIPPED:
        known = ", ".join(f"shipped/{each}" for each in SHIPPED)
        raise AttnbenchError(f"unknown backbone 'shipped/{name}'; there are {known}")
    backbone = _build(name)
    if not untrained:
        path = weights_folder() / f"{name}.safetensors"
        try:
            backbone.load_state_dict(safetensors.torch.load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise AttnbenchError(
                f"the weights in {path} cannot be used ({error}); install attnbench again, "
                f"or make them with `python -m attnbench.backbones.pretrain {name}`"
            ) from None
    return backbone


def _build(name: str) -> Backbone:
    if name == "figures-vgg":
        from attnbench.stimuli.figures import CLASSES, SIZE

        # Few channels where pictures are large: there a narrow first block saves half the time.
        labels, size, widths = tuple(CLASSES), SIZE, (16, 48, 96, 128)
    else:
        labels, size, widths = _DIGITS, 28, (32, 64, 96, 128)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stages = _stages(len(labels), widths)
    half = (0.5, 0.5, 0.5)
    return Backbone(
        stages,
        name=f"shipped/{name}",
        labels=labels,
        preprocessing=Preprocessing(size=size, resize=size, mean=half, std=half),
    )


def _stages(classes: int, widths: tuple[int, ...]) -> dict[str, nn.Module]:
    """VGG in small: 3 x 3 convolutions with ReLU, a max-pool after each block, one linear head."""
    stages: dict[str, nn.Module] = {}
    channels = 3
    for number, width in enumerate(widths, start=1):
        convolution = nn.Conv2d(channels, width, 3, padding=1)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        stages[f"block{number}"] = nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(2))
        channels = width
    stages["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    stages["head"] = nn.Linear(channels, classes)
    return stages
