"""Trained networks as named stages: the shipped ones, torchvision's, timm's and the user's own."""

from __future__ import annotations

from pathlib import Path

from attnbench.backbone_names import is_own
from attnbench.backbones.backbone import Backbone, Preprocessing, fingerprint

__all__ = ["Backbone", "Preprocessing", "fingerprint", "load"]


def load(name: str, *, untrained: bool = False, data: Path | None = None) -> Backbone:
    """Return the backbone called `name`, frozen and in eval mode.

    Args:
        name: `shipped/NAME`, `torchvision/NAME` or `timm/NAME`; `sixteen/NAME` for a torchvision
            network that answers with sixteen everyday categories (see `attnbench.backbones.sixteen`);
            or a backbone of the user's own: the path of a `backbone.toml`, `FILE.py:FUNCTION`, or
            what an installed package offers. The code of such a backbone runs in this process (see
            `attnbench.backbones.own_file`).
        untrained: initialise the weights with seed 0 instead of loading trained ones.
        data: a data folder. Weights of torchvision and timm networks in its `weights` sub-folder are
            preferred to a download.

    Raises:
        AttnbenchError: if the name is unknown, the weights are missing or damaged, or timm is not
            installed.
    """
    if is_own(name):
        from attnbench.backbones.own_backbone import load_own

        return load_own(name, untrained=untrained, data=data)
    family, _, network = name.partition("/")
    if family == "shipped":
        from attnbench.backbones.shipped import load_shipped

        return load_shipped(network, untrained=untrained)
    if family == "sixteen":
        from attnbench.backbones.sixteen import with_sixteen_outputs

        return with_sixteen_outputs(load(f"torchvision/{network}", untrained=untrained, data=data))
    from attnbench.backbones.libraries import library_network
    from attnbench.backbones.published_weights import load_published

    return load_published(library_network(name), untrained=untrained, data=data)
