"""Glimpses: windows on the feature maps of a frozen backbone, and a memory for what they show."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from attnbench.adaptation.features import GlobalAveragePool
from attnbench.adaptation.stages import stages_with_maps
from attnbench.backbones.backbone import Backbone
from attnbench.errors import NotApplicable

# The stage to glimpse at is chosen among those with maps of at least this width, in positions. On
# smaller maps, a window of half their width would have one or two positions.
_MIN_WIDTH = 6


def sample(
    maps: Tensor, affine: Tensor, size: tuple[int, int], *, align_corners: bool = False
) -> Tensor:
    """Resample maps on an affine grid.

    This is the sampler of spatial transformers (Jaderberg et al. 2015, arXiv 1506.02025). The
    output at v is the input at A (v, 1), where the x and y of both run from -1 to 1. Interpolation
    is bilinear, and the input is 0 outside its maps. With the transform of a window it takes a
    glimpse; with that of a canvas it draws on one.

    Args:
        maps: `[n, c, h, w]`.
        affine: the transforms A, `[n, 2, 3]`.
        size: height and width of the output in pixels.
        align_corners: if true, -1 and 1 are the centres of the outermost pixels, as in PyTorch
            before 1.3. If false they are their outer edges, so that an upright window of `size`
            pixels is a slice of the maps.

    Returns:
        `[n, c, *size]`.
    """
    grid = functional.affine_grid(affine, [*maps.shape[:2], *size], align_corners=align_corners)
    return functional.grid_sample(maps, grid, align_corners=align_corners)


def upright_windows(locations: Tensor, scale: tuple[float, float]) -> Tensor:
    """Return the affine transforms of upright windows that lie within the maps.

    Args:
        locations: x and y of each window, `[n, 2]`. At -1 and 1 it touches an edge of the maps, at
            0 it is central.
        scale: the width and height of a window relative to the maps.

    Returns:
        `[n, 2, 3]`.
    """
    scales = locations.new_tensor(scale)
    shift = (locations * (1 - scales)).unsqueeze(2)
    return torch.cat([scales.diag().expand(len(locations), 2, 2), shift], dim=2)


class GlimpseEncoder(nn.Module):
    """A frozen backbone that encodes whole images, and windows on its inner feature maps.

    `lower_stages` map images to the maps that windows are taken from. The features of a glimpse are
    what `upper_stages`, the ones up to the last with maps, make of a window, averaged over
    positions. In a ViT, the maps are those of the patch tokens, and the class token is added to
    each window. The modules are shared with the backbone.

    Args:
        backbone: as it was given to `adapt`.
        after: the stage whose maps windows are taken from. If empty, it is the middle one of the
            stages with maps, or the last one before it whose maps are at least 6 positions wide.
        scale: the sides of a window relative to the maps.
        image: `[1, 3, h, w]`, from which the shapes are determined.

    Attributes:
        lower_stages: images to maps `[n, c, h, w]`, or to tokens `[n, 1 + h w, c]`.
        upper_stages: maps or tokens to those of the last stage that has them.
        head: the remaining stages, to the backbone's outputs.
        size: height and width of a window in positions.
        scale: its width and height relative to the maps.
        features: the number of features of a glimpse.
        outputs: the number of outputs of the backbone.

    Raises:
        NotApplicable: if no stage before the last has maps.
    """

    def __init__(self, backbone: Backbone, after: str, scale: float, image: Tensor) -> None:
        super().__init__()
        shapes = stages_with_maps(backbone, image)
        names = [name for name in shapes if name != backbone.stages[-1]]
        if not names:
            raise NotApplicable("no stage before the backbone's last has maps to take glimpses of")
        up_to_middle = names[: len(names) // 2 + 1]
        wide = [name for name in up_to_middle if _map_size(shapes[name])[1] >= _MIN_WIDTH]
        after = after or (wide or names)[-1]
        first, end = (backbone.stages.index(name) + 1 for name in (after, names[-1]))
        stages = list(backbone.children())
        self.lower_stages = backbone.upto(after)
        self.upper_stages = nn.Sequential(*stages[first:end])
        self.head = nn.Sequential(*stages[end:])
        height, width = _map_size(shapes[after])
        self.size = (max(1, round(scale * height)), max(1, round(scale * width)))
        # Windows have whole numbers of positions, so their scale is not exactly the one asked for.
        self.scale = (self.size[1] / width, self.size[0] / height)
        with torch.no_grad():
            maps = self.lower_stages(image)
            centre = upright_windows(maps.new_zeros(1, 2), self.scale)
            self.outputs = self.whole(maps).shape[1]
            self.features = self.glimpse(maps, centre).shape[1]

    def whole(self, maps: Tensor) -> Tensor:
        """Return the backbone's outputs `[n, outputs]` for the maps from `lower_stages`."""
        return cast(Tensor, self.head(self.upper_stages(maps)))

    def glimpse(self, maps: Tensor, affine: Tensor, *, align_corners: bool = False) -> Tensor:
        """Return the features of one window for each image.

        Args:
            maps: from `lower_stages`.
            affine: the transform of each window, `[n, 2, 3]`.
            align_corners: see `sample`.

        Returns:
            `[n, features]`.
        """
        if maps.dim() == 4:
            window = sample(maps, affine, self.size, align_corners=align_corners)
        else:
            patches = maps[:, 1:].mT.reshape(len(maps), -1, *_map_size(maps.shape[1:]))
            window = sample(patches, affine, self.size, align_corners=align_corners)
            window = torch.cat([maps[:, :1], window.flatten(2).mT], dim=1)
        return cast(Tensor, GlobalAveragePool()(self.upper_stages(window)))


def _map_size(shape: torch.Size) -> tuple[int, int]:
    """Return height and width of maps `[c, h, w]`, or of the patches of tokens `[1 + h w, c]`."""
    if len(shape) == 3:
        return shape[1], shape[2]
    side = math.isqrt(shape[0] - 1)
    return side, side


class GlimpseReadout(nn.Module):
    """Combine the backbone's outputs with the state that was gathered from glimpses.

    If the target is one of the outputs, a learned linear function of the state is added to its
    logit, and so to its log-odds. The function is zero at first, so that a detector starts as the
    backbone. If it is not, the state is concatenated to the outputs, and the read-out of the
    `Detector` learns from both.

    Args:
        target: the target's index among the outputs, or None.
        width: the number of dimensions of the state.
    """

    def __init__(self, target: int | None, width: int) -> None:
        super().__init__()
        self.target = target
        self.linear: nn.Linear | None = None
        if target is not None:
            self.linear = nn.Linear(width, 1)
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, outputs: Tensor, state: Tensor) -> Tensor:
        """Map `[n, outputs]` and `[n, width]` to `[n, outputs]`, or to `[n, outputs + width]`."""
        if self.linear is None:
            return torch.cat([outputs, state], dim=1)
        index = torch.tensor([self.target], device=outputs.device)
        return outputs.index_add(1, index, self.linear(state))


# What `HebbRosenblatt` has stored: the input x and the activity y of each glimpse, both `[n, m]`.
MemoryState = list[tuple[Tensor, Tensor]]


class HebbRosenblatt(nn.Module):
    """The Hebb-Rosenblatt memory of STAWM (Harris et al. 2019, arXiv 1901.03665).

    The memory is the weights W of a layer, which are built up anew for each image from W = 0. With
    input x and activity y = eta relu6(theta x + W x), each glimpse changes W to

        W + dt eta y x^T - dt delta W

    with dt = 1. A query q reads relu6(W q). eta, delta and theta are learned scalars. The authors'
    code has eta only once, in y. As eta is learned the memory is the same, and the initial
    sqrt(0.4) here is 0.4 there.

    W is a sum of a few outer products and is never formed. Its m^2 numbers per image would cost
    more than the rest of the network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.eta = nn.Parameter(torch.tensor(math.sqrt(0.4)))
        self.delta = nn.Parameter(torch.tensor(0.2))
        self.theta = nn.Parameter(torch.tensor(0.5))

    def write(self, state: MemoryState, inputs: Tensor) -> MemoryState:
        """Return the state after a glimpse with the inputs `[n, m]`. An empty memory is `[]`."""
        drive = self.theta * inputs + self.multiply(state, inputs)
        return [*state, (inputs, self.eta * functional.relu6(drive))]

    def read(self, state: MemoryState, query: Tensor) -> Tensor:
        """Return the answers `[n, m]`, from 0 to 6, to queries `[n, m]`."""
        return functional.relu6(self.multiply(state, query))

    def multiply(self, state: MemoryState, vectors: Tensor) -> Tensor:
        """Return W v `[n, m]` for vectors v `[n, m]`."""
        total = torch.zeros_like(vectors)
        for x, y in state:
            overlap = (x * vectors).sum(1, keepdim=True)
            total = total + self.eta * y * overlap - self.delta * total
        return total
