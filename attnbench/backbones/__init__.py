"""Trained networks as named stages: shipped ones, and those of torchvision and timm."""

from __future__ import annotations

from pathlib import Path

from attnbench.backbones.backbone import Backbone, Preprocessing, fingerprint
from attnbench.errors import AttnbenchError

__all__ = ["Backbone", "Preprocessing", "fingerprint", "load"]


def load(name: str, *, untrained: bool = False, data: Path | None = None) -> Backbone:
    """The backbone called `name`, frozen and in eval mode.

    Args:
        name: `shipped/NAME`, `torchvision/NAME` or `timm/NAME`.
        untrained: leave the weights as they are initialised, the same ones each time.
        data: a folder whose `weights` sub-folder may hold weights of the latter two.

    Raises:
        AttnbenchError: for an unknown name, or weights that are not there.
    """
    family, _, network = name.partition("/")
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
                f"{name} needs {missing.name}: pip install 'attnbench[timm]'"
            ) from None
        return load_timm(network, untrained=untrained, data=data)
    raise AttnbenchError(
        f"unknown backbone {name!r}; write shipped/NAME, torchvision/NAME or timm/NAME, "
        "such as shipped/figures-vgg, torchvision/vgg16 or timm/resnet50.a1_in1k"
    )
