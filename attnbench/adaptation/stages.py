"""Stages of a backbone whose outputs are feature maps or tokens."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from attnbench.backbones.backbone import Backbone
from attnbench.errors import NotApplicable


def stages_with_maps(backbone: Backbone, image: Tensor) -> dict[str, torch.Size]:
    """Return the output shapes of the stages that return maps or tokens.

    Args:
        backbone: runs once on `image`.
        image: `[1, 3, h, w]`.

    Returns:
        The shape of each such stage by its name, in the order of the stages. Shapes are without the
        batch dimension: `[c, h, w]` for maps, `[t, c]` for tokens.
    """
    shapes = {}
    with torch.no_grad():
        for name in backbone.stages:
            image = backbone.stage(name)(image)
            if image.dim() in (3, 4):
                shapes[name] = image.shape[1:]
    return shapes


def middle_stage(backbone: Backbone, shapes: Mapping[str, torch.Size]) -> str:
    """Return the middle one of the stages with maps or tokens.

    The backbone's last stage does not count. For VGG-16 it is `block3`, the third of five.

    Args:
        backbone: the backbone with these stages.
        shapes: the result of `stages_with_maps`.

    Raises:
        NotApplicable: if only the last stage, or none, has maps or tokens.
    """
    names = [name for name in shapes if name != backbone.stages[-1]]
    if not names:
        raise NotApplicable("no stage before the backbone's last returns feature maps or tokens")
    return names[len(names) // 2]


def num_channels(shape: torch.Size) -> int:
    """Return the number of channels of maps `[c, h, w]`, tokens `[t, c]` or vectors `[c]`."""
    return shape[0] if len(shape) == 3 else shape[-1]
