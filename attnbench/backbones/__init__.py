"""Trained networks as named stages: the shipped ones, torchvision's and timm's."""

from __future__ import annotations

from pathlib import Path

from attnbench.backbones.backbone import Backbone, Preprocessing, fingerprint
from attnbench.errors import AttnbenchError

__all__ = ["Backbone", "Preprocessing", "fingerprint", "load"]


def load(name: str, *, untrained: bool = False, data: Path | None = None) -> Backbone:
    """Return the backbone called `name`, frozen and in eval mode.

    Args:
        name: `shipped/NAME`, `torchvision/NAME` or `timm/NAME`.
        untrained: initialise the weights with seed 0 instead of loading trained ones.
        data: a data folder. Weights of torchvision and timm networks in its `weights` sub-folder are
            preferred to a download.

    Raises:
        AttnbenchError: if the name is unknown, the weights are missing or damaged, or timm is not
            installed.
    """
    family, _, network = name.partition("/")
    # Each family is imported only when needed: importing torchvision takes seconds, and timm is an
    # optional dependency.
    if family == "shipped":
        from attnbench.backbones.shipped import load_shipped

        return load_shipped(network, untrained=untrained)
    if family == "torchvision":
        from attnbench.backbones.torchvision_models import load_torchvision

        return load_torchvision(network, untrained=untrained, data=data)
    if family == "timm":
        try:
            from attnbench.backbones.timm_models import load_timm
        except ModuleNotFoundError as missing:
            raise AttnbenchError(
                f"backbone {name} needs the package {missing.name}; "
                "install it with pip install 'attnbench[timm]'"
            ) from None
        return load_timm(network, untrained=untrained, data=data)
    raise AttnbenchError(
        f"unknown backbone {name!r}; use shipped/NAME, torchvision/NAME or timm/NAME, "
        "for example shipped/figures-vgg, torchvision/vgg16 or timm/resnet50.a1_in1k"
    )
