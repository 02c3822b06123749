"""The small networks that ship with attnbench, trained by the recipes in `pretraining/`."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from attnbench.backbones.backbone import Backbone, Preprocessing
from attnbench.backbones.network import build_with_fixed_seed
from attnbench.errors import AttnbenchError
from attnbench.resources import weights_folder
from attnbench.text import did_you_mean

SHIPPED = (
    "figures-vgg",
    "figures-vit",
    "figures-resnet",
    "figures-filter",
    "figures-simclr",
    "digits-cnn",
    "mnist-cnn",
    "cifar-vae",
    "cifar-simclr",
)
# The classes of `attnbench.stimuli.figures`, copied to a file: a worker's process loads backbones but
# must never import the stimuli, which could draw the test pictures with their labels.
_FIGURE_LABELS = tuple(
    Path(__file__).with_name("figures_labels.txt").read_text(encoding="ascii").splitlines()
)
_ZEROS, _HALVES, _ONES = (0.0,) * 3, (0.5,) * 3, (1.0,) * 3


def load_shipped(name: str, *, untrained: bool = False) -> Backbone:
    """Return a shipped network, frozen and in eval mode.

    Args:
        name: one of `SHIPPED`.
        untrained: initialise the weights with seed 0 instead of loading the trained ones.

    Raises:
        AttnbenchError: if the name is unknown or the weights are missing or damaged.
    """
    if name not in SHIPPED:
        known = [f"shipped/{network}" for network in SHIPPED]
        meant = did_you_mean(f"shipped/{name}", known, ": ")
        raise AttnbenchError(
            f"unknown backbone 'shipped/{name}'{meant} (known: {', '.join(known)})"
        )
    backbone = build_with_fixed_seed(lambda: _build(name))
    if not untrained:
        path = weights_folder() / f"{name}.safetensors"
        try:
            backbone.load_state_dict(safetensors.torch.load_file(path))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise AttnbenchError(
                f"cannot load the weights in {path} ({error}); reinstall attnbench, "
                f"or train them again with `python -m pretraining {name}` in a clone of attnbench"
            ) from None
    return backbone


def _build(name: str) -> Backbone:
    picture_set = name.split("-")[0]
    size = {"figures": 48, "cifar": 32}.get(picture_set, 28)
    classes = _FIGURE_LABELS if picture_set == "figures" else tuple(str(n) for n in range(10))
    labels: tuple[str, ...] | None = classes
    match name:
        case "cifar-vae" | "cifar-simclr" | "figures-simclr":
            stages, labels = _encoder(variational=name == "cifar-vae"), None
        # 48-pixel pictures make the first block the most expensive one. Narrowing it to 16 channels
        # halves the time of a forward pass.
        case "figures-vgg":
            stages = _classifier(len(classes), (16, 48, 96, 128))
        case "figures-filter":
            stages = _classifier(len(classes), (16, 32, 64))
        case "figures-vit" | "figures-resnet":
            # Imported here because torchvision takes a second to import.
            from attnbench.backbones.narrow_networks import narrow_resnet, narrow_vit

            is_vit = name == "figures-vit"
            stages = narrow_vit(len(classes), size) if is_vit else narrow_resnet(len(classes))
        case _:
            stages = _classifier(len(classes), (32, 64, 96, 128))
    # The beta-VAE reconstructs pixels in [0, 1], so its encoder takes them unnormalised.
    mean, std = (_ZEROS, _ONES) if name == "cifar-vae" else (_HALVES, _HALVES)
    return Backbone(
        stages,
        name=f"shipped/{name}",
        labels=labels,
        preprocessing=Preprocessing(size=size, resize=size, mean=mean, std=std),
    )


def _classifier(classes: int, widths: tuple[int, ...]) -> dict[str, nn.Module]:
    """Return a small VGG: blocks of 3 x 3 convolution, ReLU and max-pooling, and one linear head.

    Args:
        classes: the number of outputs.
        widths: the number of channels of each block.
    """
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
    """Return the encoder of the beta-VAE in Harris et al. (2019), with 32/64/128/128 channels.

    Its convolutions are 4 x 4.

    Args:
        variational: if true, the code is a linear layer of 32 means, as published. If false (for
            SimCLR), convolutions have batch normalisation and the code is the mean over positions.
    """
    stages: dict[str, nn.Module] = {}
    channels = 3
    for number, (width, stride) in enumerate(((32, 2), (64, 2), (128, 2), (128, 1)), start=1):
        # Stride 2 halves the map. Stride 1 keeps its size, for which a kernel of 4 needs 3 more
        # pixels: 1 on one side and 2 on the other, which `Conv2d(padding=...)` cannot do.
        padding = nn.ZeroPad2d(1 if stride == 2 else (1, 2, 1, 2))
        convolution = nn.Conv2d(channels, width, 4, stride, bias=variational)
        normalisation = [] if variational else [nn.BatchNorm2d(width)]
        stages[f"block{number}"] = nn.Sequential(padding, convolution, *normalisation, nn.ReLU())
        channels = width
    if variational:
        stages["code"] = nn.Sequential(nn.Flatten(), nn.Linear(2048, 32))
    else:
        stages["code"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return stages
