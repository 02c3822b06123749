"""Glimpses: small windows on feature maps, what a frozen backbone makes of them, and a memory for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from attnbench.adaptation.features import Pooled, stages_with_maps
from attnbench.backbones.backbone import Backbone


def sample(maps: Tensor, affine: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Resample maps `[n, c, h, w]` on an affine grid, bilinear, 0 outside: `[n, c, *size]`.

    The value at (x, y) of the result, from (-1, -1) to (1, 1), is that of the maps at A (x, y, 1)
    (the spatial transformer, Jaderberg et al. 2015, arXiv 1506.02025). It takes glimpses of maps,
    and places a sketch on a canvas of `size`.

    Args:
        maps: `[n, c, h, w]`.
        affine: A, `[n, 2, 3]`.
        size: height and width of the result.
        align_corners: whether -1 and 1 are the centres of the outermost pixels, as in PyTorch
            before 1.3; else their outer edges, so that an upright window of as many pixels as the
            result has is that slice of the maps.
    """
    grid = functional.affine_grid(affine, [*maps.shape[:2], *size], align_corners=align_corners)
    return functional.grid_sample(maps, grid, align_corners=align_corners)


def upright(centres: Tensor, share: Tensor) -> Tensor:
    """Affine maps `[n, 2, 3]` of upright windows within the maps.

    Args:
        centres: x and y, `[n, 2]`; at -1 and 1 the window touches the maps' edges.
        share: the window's sides over the maps', `[2]` (of width and of height).
    """
    return torch.cat([share.diag().expand(len(centres), 2, 2), (centres * (1 - share))[..., None]], 2)


class Eye(nn.Module):
    """A frozen backbone that looks at an image as a whole, and through glimpses of its inner maps.

    A glimpse is a window on the maps behind a middle stage, `size` of them, resampled; its features
    are what the backbone's later stages make of it, up to the last with maps, averaged over
    positions. The backbone's modules are shared. Of a ViT's tokens the patches' are the maps, the
    class token goes with each glimpse.

    Args:
        backbone: its stages.
        after: the stage whose maps glimpses are taken of; empty for the middle one of those with
            maps.
        share: a glimpse's side over the maps'.
        image: `[1, 3, H, W]`, to see shapes by.

    Attributes:
        before: images to the maps, `[n, c, h, w]` or tokens `[n, 1 + h w, c]`.
        size: of a glimpse.
        width: of a glimpse's features.
        outputs: how many outputs the backbone has.
    """

    def __init__(self, backbone: Backbone, after: str, share: float, image: Tensor) -> None:
        super().__init__()
        names = [each for each in stages_with_maps(backbone, image) if each != backbone.stages[-1]]
        after = after or names[len(names) // 2]
        self.before = backbone.upto(after)
        stages = dict(backbone.named_children())
        # what follows the glimpsed stage, up to the last maps, and from there to the outputs
        first, last = (backbone.stages.index(each) + 1 for each in (after, names[-1]))
        self.behind = nn.Sequential(*list(stages.values())[first:last])
        self.rest = nn.Sequential(*list(stages.values())[last:])
        with torch.no_grad():
            features = self.before(image)
            maps = _maps(features)
            height, width = (max(1, round(share * side)) for side in maps.shape[2:])
            self.size = (height, width)
            self.share = (width / maps.shape[3], height / maps.shape[2])
            self.width = self.glimpse(features, torch.eye(2, 3, device=image.device)[None]).shape[1]
            self.outputs = self.whole(features).shape[1]

    def whole(self, features: Tensor) -> Tensor:
        """The backbone's outputs `[n, d]` for what `before` gave."""
        outputs: Tensor = self.rest(self.behind(features))
        return outputs
