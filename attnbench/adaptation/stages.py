"""Where in a backbone there is something to put a layer behind."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from attnbench.backbones.backbone import Backbone
from attnbench.errors import NotApplicable


def stages_with_maps(backbone: Backbone, image: Tensor) -> dict[str, torch.Size]:
    """The stages that give maps `[c, h, w]` or tokens `[t, c]`, in their order, with these shapes.

    Args:
        backbone: is run on it once.
        image: `[1, 3, h, w]`.
    """
    shapes = {}
    with torch.no_grad():
        for name in backbone.stages:
            image = backbone.stage(name)(image)
            if image.dim() in (3, 4):
                shapes[name] = image.shape[1:]
    return shapes


def middle_stage(backbone: Backbone, shapes: Mapping[str, torch.Size]) -> str:
    """The stage in the middle of those with maps or tokens, the backbone's last one left out.

    `block3` of VGG-16 is the third of five.

    Args:
        backbone: whose stages they are.
        shapes: as `stages_with_maps` gives them.

    Raises:
        NotApplicable: where there is none.
    """
    names = [name for name in shapes if name != backbone.stages[-1]]
    if not names:
        raise NotApplicable("the backbone has no stage of maps or tokens before its last")
    return names[len(names) // 2]


def width(shape: torch.Size) -> int:
    """How many channels maps `[c, h, w]`, tokens `[t, c]` or features `[c]` have."""
    return shape[0] if len(shape) == 3 else shape[-1]
