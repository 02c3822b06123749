"""Glimpses: windows on a frozen backbone's inner maps, what it makes of them, a memory for them."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from attnbench.adaptation.features import Pooled
from attnbench.adaptation.stages import stages_with_maps
from attnbench.backbones.backbone import Backbone
from attnbench.errors import NotApplicable

# A window on maps of fewer places than this across is hardly one.
_LEAST_SIDE = 6


def sample(
    maps: Tensor, affine: Tensor, size: tuple[int, int], *, align_corners: bool = False
) -> Tensor:
    """Maps resampled on an affine grid, bilinear, 0 outside (Jaderberg et al. 2015, 1506.02025).

    The result at v is the maps' value at A (v, 1), with x and y from -1 to 1 on both. Takes a
    glimpse where `size` is a glimpse's, and places a sketch where it is a canvas'.

    Args:
        maps: `[n, c, h, w]`.
        affine: A, `[n, 2, 3]`.
        size: height and width of the result, in pixels.
        align_corners: -1 and 1 are the centres of the outermost pixels, as in PyTorch before 1.3;
            else their outer edges, so that an upright window of `size` pixels is a slice.

    Returns:
        `[n, c, *size]`.
    """
    grid = functional.affine_grid(affine, [*maps.shape[:2], *size], align_corners=align_corners)
    return functional.grid_sample(maps, grid, align_corners=align_corners)


def upright(places: Tensor, share: tuple[float, float]) -> Tensor:
    """The affine transforms of upright windows that lie within the maps.

    Args:
        places: x and y, `[n, 2]`; at -1 and 1 a window touches the maps' edges, at 0 it is central.
        share: a window's width and height over the maps' own.

    Returns:
        `[n, 2, 3]`.
    """
    scale = places.new_tensor(share)
    shift = (places * (1 - scale)).unsqueeze(2)
    return torch.cat([scale.diag().expand(len(places), 2, 2), shift], dim=2)


class Eye(nn.Module):
    """A frozen backbone that looks at an image as a whole, and at windows of its inner maps.

    What a glimpse shows is what the stages behind the glimpsed one make of a window on its maps, up
    to the last stage with maps, averaged over places. Of a ViT's tokens the patches' are the maps;
    the class token goes with each glimpse. Shares the backbone's modules.

    Args:
        backbone: as handed out.
        after: the stage whose maps are glimpsed at; empty for the middle one of those with maps, or
            the last before it that is at least 6 places wide.
        share: a glimpse's sides over the maps'.
        image: `[1, 3, h, w]`, to see shapes by.

    Attributes:
        before: images to what is glimpsed at: maps `[n, c, h, w]` or tokens `[n, 1 + h w, c]`.
        size: a glimpse's height and width, in places of the maps.
        share: its width and height over the maps'.
        features: how many features a glimpse has.
        outputs: how many outputs the backbone has.

    Raises:
        NotApplicable: where no stage before the last gives maps.
    """

    def __init__(self, backbone: Backbone, after: str, share: float, image: Tensor) -> None:
        super().__init__()
        shapes = stages_with_maps(backbone, image)
        names = [name for name in shapes if name != backbone.stages[-1]]
        if not names:
            raise NotApplicable("no stage of the backbone gives maps to glimpse at")
        upto_middle = names[: len(names) // 2 + 1]
        wide = [name for name in upto_middle if _places(shapes[name])[1] >= _LEAST_SIDE]
        after = after or (wide or names)[-1]
        first, end = (backbone.stages.index(name) + 1 for name in (after, names[-1]))
        stages = list(backbone.children())
        self.before = backbone.upto(after)
        self.behind = nn.Sequential(*stages[first:end])
        self.rest = nn.Sequential(*stages[end:])
        height, width = _places(shapes[after])
        self.size = (max(1, round(share * height)), max(1, round(share * width)))
        self.share = (self.size[1] / width, self.size[0] / height)
        with torch.no_grad():
            seen = self.before(image)
            self.outputs = self.whole(seen).shape[1]
            self.features = self.glimpse(seen, upright(seen.new_zeros(1, 2), self.share)).shape[1]

    def whole(self, seen: Tensor) -> Tensor:
        """The backbone's own outputs `[n, outputs]`, of what `before` gives."""
        return cast(Tensor, self.rest(self.behind(seen)))

    def glimpse(self, seen: Tensor, affine: Tensor, *, align_corners: bool = False) -> Tensor:
        """Features `[n, features]` of what `before` gives, through windows `[n, 2, 3]`."""
        if seen.dim() == 4:
            window = sample(seen, affine, self.size, align_corners=align_corners)
        else:
            patches = seen[:, 1:].mT.reshape(len(seen), -1, *_places(seen.shape[1:]))
            window = sample(patches, affine, self.size, align_corners=align_corners)
            window = torch.cat([seen[:, :1], window.flatten(2).mT], dim=1)
        return cast(Tensor, Pooled()(self.behind(window)))


def _places(shape: torch.Size) -> tuple[int, int]:
    """Height and width of maps `[c, h, w]`, or of the patches among tokens `[1 + h w, c]`."""
    if len(shape) == 3:
        return shape[1], shape[2]
    side = math.isqrt(shape[0] - 1)
    return side, side


class Evidence(nn.Module):
    """Adds what was gathered from glimpses to what the backbone says by itself.

    Where the target is among the outputs, its logit, and so its log-odds, is raised by a learned
    linear function of the state, zero at first: a detector starts as the backbone is. Where it is
    not, the state goes beside the outputs, for the `Detector`'s read-out of both.

    Args:
        target: the target's index among the outputs, or None.
        width: of the state.
    """

    def __init__(self, target: int | None, width: int) -> None:
        super().__init__()
        self.target = target
        self.weigh: nn.Linear | None = None
        if target is not None:
            self.weigh = nn.Linear(width, 1)
            nn.init.zeros_(self.weigh.weight)
            nn.init.zeros_(self.weigh.bias)

    def forward(self, outputs: Tensor, state: Tensor) -> Tensor:
        """`[n, outputs]` and `[n, width]` to `[n, outputs]`, or `[n, outputs + width]`."""
        if self.weigh is None:
            return torch.cat([outputs, state], dim=1)
        index = torch.tensor([self.target], device=outputs.device)
        return outputs.index_add(1, index, self.weigh(state))


# What a memory holds: each glimpse's input x and activity y, `[n, m]` both.
Written = list[tuple[Tensor, Tensor]]


class HebbRosenblatt(nn.Module):
    """A memory in the weights W of a layer, written anew for each image (Harris et al. 2019, STAWM).

    With input x and activity y = eta relu6(theta x + W x), each glimpse makes of W

        W + dt eta y x^T - dt delta W

    with dt = 1, from W = 0; a query q reads relu6(W q). eta, delta and theta are learned numbers.
    (The authors' code has eta once, in y. As it is learned that is the same memory, and sqrt(0.4)
    here is what 0.4 is there.) W is a sum of a few outer products and is never formed: m^2 numbers
    an image would cost more than the rest of the network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.eta = nn.Parameter(torch.tensor(math.sqrt(0.4)))
        self.delta = nn.Parameter(torch.tensor(0.2))
        self.theta = nn.Parameter(torch.tensor(0.5))

    def write(self, written: Written, inputs: Tensor) -> Written:
        """The memory after one more glimpse's input `[n, m]`."""
        drive = self.theta * inputs + self.product(written, inputs)
        return [*written, (inputs, self.eta * functional.relu6(drive))]

    def read(self, written: Written, query: Tensor) -> Tensor:
        """What it gives for queries `[n, m]`: `[n, m]`, from 0 to 6."""
        return functional.relu6(self.product(written, query))

    def product(self, written: Written, vectors: Tensor) -> Tensor:
        """W v for vectors v `[n, m]`."""
        total = torch.zeros_like(vectors)
        for x, y in written:
            overlap = (x * vectors).sum(1, keepdim=True)
            total = total + self.eta * y * overlap - self.delta * total
        return total
