"""The small networks that attnbench ships, trained by `attnbench.backbones.pretraining`."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.backbones.published import initialised
from attnbench.errors import AttnbenchError
from attnbench.resources import weights_folder

SHIPPED = (
    "figures-vgg",
    "figures-filter",
    "figures-simclr",
    "digits-cnn",
    "mnist-cnn",
    "cifar-vae",
    "cifar-simclr",
)
# The classes of `attnbench.stimuli.figures`, which a worker's process must not hold.
_FIGURES = tuple(
    Path(__file__).with_name("figures_labels.txt").read_text(encoding="ascii").splitlines()
)
_HALF, _NOUGHT, _ONE = (0.5,) * 3, (0.0,) * 3, (1.0,) * 3


def load_shipped(name: str, *, untrained: bool = False) -> Backbone:
    """A shipped network by name. Raises AttnbenchError for an unknown name or damaged weights."""
    if name not in SHIPPED:
        known = ", ".join(f"shipped/{each}" for each in SHIPPED)
        raise AttnbenchError(f"unknown backbone 'shipped/{name}'; there are {known}")
    backbone = initialised(lambda: _build(name))
    if not untrained:
        path = weights_folder() / f"{name}.safetensors"
        try:
            backbone.load_state_dict(safetensors.torch.load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise AttnbenchError(
                f"the weights in {path} cannot be used ({error}); install attnbench again, "
                f"or make them with `python -m attnbench.backbones.pretraining {name}`"
            ) from None
    return backbone


def _build(name: str) -> Backbone:
    pictures = name.split("-")[0]
    size = {"figures": 48, "cifar": 32}.get(pictures, 28)
    labels = _FIGURES if pictures == "figures" else tuple(str(digit) for digit in range(10))
    match name:
        case "cifar-vae" | "cifar-simclr" | "figures-simclr":
            stages, known = _encoder(variational=name == "cifar-vae"), None
        # Few channels where pictures are large: a narrow first block saves half the time.
        case "figures-vgg":
            stages, known = _classifier(len(labels), (16, 48, 96, 128)), labels
        case "figures-filter":
            stages, known = _classifier(len(labels), (16, 32, 64)), labels
        case _:
            stages, known = _classifier(len(labels), (32, 64, 96, 128)), labels
    mean, std = (_NOUGHT, _ONE) if name == "cifar-vae" else (_HALF, _HALF)
    return Backbone(
        stages,
        name=f"shipped/{name}",
        labels=known,
        preprocessing=Preprocessing(size=size, resize=size, mean=mean, std=std),
    )


def _classifier(classes: int, widths: tuple[int, ...]) -> dict[str, nn.Module]:
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


def _encoder(*, variational: bool) -> dict[str, nn.Module]:
    """The encoder of STAWM's beta-VAE, 4 x 4 convolutions of 32/64/128/128 channels.

    With its linear code of 32 means as published; or, for SimCLR, with batch normalisation and the
    mean over positions as the code.
    """
    stages: dict[str, nn.Module] = {}
    channels = 3
    for number, (width, stride) in enumerate(((32, 2), (64, 2), (128, 2), (128, 1)), start=1):
        # half the size, or the same: a kernel of 4 needs 3 more pixels for that
        padding = nn.ZeroPad2d(1 if stride == 2 else (1, 2, 1, 2))
        convolution = nn.Conv2d(channels, width, 4, stride, bias=variational)
        normalise = [] if variational else [nn.BatchNorm2d(width)]
        stages[f"block{number}"] = nn.Sequential(padding, convolution, *normalise, nn.ReLU())
        channels = width
    if variational:
        stages["code"] = nn.Sequential(nn.Flatten(), nn.Linear(2048, 32))
    else:
        stages["code"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return stages
