"""Glimpses: windows of pixels, what a frozen backbone makes of them, and a memory for it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from attnbench.adaptation.detectors import log_odds
from attnbench.adaptation.features import GlobalAveragePool, channels_last
from attnbench.adaptation.stages import stages_with_maps
from attnbench.backbones.backbone import Backbone

# The largest side of a context image in pixels, which is that of EDRAM, and the least factor by
# which it is smaller than the image.
_CONTEXT_SIDE, _CONTEXT_FACTOR = 12, 4
_CONTEXT_CHANNELS = 16

# The locations of `spiral` keep this distance from the centre, so that their atanh is finite.
_SPIRAL_RADIUS = 0.8


def sample(
    maps: Tensor, affine: Tensor, size: tuple[int, int], *, align_corners: bool = False
) -> Tensor:
    """Resample images or maps on an affine grid.

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
    """Return the affine transforms of upright windows that lie within the image.

    Args:
        locations: x and y of each window, `[n, 2]`. At -1 and 1 it touches an edge of the image, at
            0 it is central.
        scale: the width and height of a window relative to the image.

    Returns:
        `[n, 2, 3]`.
    """
    scales = locations.new_tensor(scale)
    shift = (locations * (1 - scales)).unsqueeze(2)
    return torch.cat([scales.diag().expand(len(locations), 2, 2), shift], dim=2)


def spiral(count: int) -> Tensor:
    """Return locations `[count, 2]` from the centre outwards, where an untrained detector looks.

    They are the points of Vogel's spiral (1979, Mathematical Biosciences 44), which cover a disc
    evenly whatever their number. Its radius is 0.8.
    """
    steps = torch.arange(count)
    radius = _SPIRAL_RADIUS * (steps / max(1, count - 1)).sqrt()
    angle = steps * math.pi * (3 - math.sqrt(5))
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


class GlimpseEncoder(nn.Module):
    """A frozen backbone that encodes windows of pixels, and never an image.

    A window has the same number of pixels wherever it is and however large an affine transform
    makes it, so no glimpse shows the whole image at full resolution. Where the backbone refuses
    images of that size, the window is enlarged to the size of the backbone's own images.

    The features of a glimpse are the maps of the last stage that has maps, averaged over positions
    and normalised over channels (layer normalisation), so that they have the same scale for all
    backbones. The modules are shared with the backbone.

    Args:
        backbone: as it was given to `adapt`.
        scale: the sides of a window relative to the image.
        image: `[1, 3, h, w]`, from which sizes are determined.

    Attributes:
        lower_stages: windows to the maps or tokens of the last stage that has them.
        head: the remaining stages, to the backbone's outputs.
        target: the target's index among the outputs, or None.
        size: height and width of a window in pixels.
        input_size: the height and width to which windows are enlarged for the backbone.
        scale: width and height of a window relative to the image.
        features: the number of features of a glimpse.
    """

    def __init__(self, backbone: Backbone, scale: float, image: Tensor) -> None:
        super().__init__()
        height, width = image.shape[2:]
        self.size = (max(1, round(scale * height)), max(1, round(scale * width)))
        # Windows have whole numbers of pixels, so their scale is not exactly the one asked for.
        self.scale = (self.size[1] / width, self.size[0] / height)
        self.input_size = self.size
        if not _accepts(backbone, image.new_zeros(1, 3, *self.size)):
            self.input_size = (backbone.preprocessing.size,) * 2
        window = image.new_zeros(1, 3, *self.input_size)
        shapes = stages_with_maps(backbone, window)
        names = [name for name in shapes if name != backbone.stages[-1]] or [backbone.stages[-1]]
        end = backbone.stages.index(names[-1]) + 1
        stages = list(backbone.children())
        self.lower_stages = nn.Sequential(*stages[:end])
        self.head = nn.Sequential(*stages[end:])
        self.target = backbone.target
        with torch.no_grad():
            self.features = GlobalAveragePool()(self.lower_stages(window)).shape[1]

    def forward(
        self, images: Tensor, affine: Tensor, *, align_corners: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Encode one window of each image.

        Args:
            images: `[n, 3, h, w]`.
            affine: the transform of each window, `[n, 2, 3]`.
            align_corners: see `sample`.

        Returns:
            The features `[n, features]`, and the log-odds of the target in the window alone, `[n]`.
            These are 0 if the target is not among the outputs.
        """
        windows = sample(images, affine, self.size, align_corners=align_corners)
        if self.input_size != self.size:
            windows = functional.interpolate(windows, self.input_size, mode="bilinear")
        maps = self.lower_stages(channels_last(windows))
        features = GlobalAveragePool()(maps)
        normalised = functional.layer_norm(features, features.shape[1:])
        if self.target is None:
            return normalised, features.new_zeros(len(features))
        return normalised, log_odds(self.head(maps), self.target)


def _accepts(backbone: Backbone, images: Tensor) -> bool:
    """Return whether the backbone runs on images of this size."""
    try:
        with torch.no_grad():
            backbone(images)
    # Networks refuse a size by a failed operation, or by an assertion of their own.
    except (RuntimeError, AssertionError, ValueError):
        return False
    return True


class ContextEncoder(nn.Module):
    """Encodes a small copy of images: all that a detector may see of the whole.

    The copy has at most 12 x 12 pixels, as in EDRAM, and at most a quarter of the image's height
    and width. Each of its pixels is a mean over pixels of the image.

    Args:
        image: `[1, 3, h, w]`, from which the size of the copy is determined.
        width: the number of outputs.
    """

    def __init__(self, image: Tensor, width: int) -> None:
        super().__init__()
        height, width_of_image = (_context_side(side) for side in image.shape[2:])
        self.size = (height, width_of_image)
        positions = -(-height // 2) * -(-width_of_image // 2)
        self.layers = nn.Sequential(
            nn.Conv2d(3, _CONTEXT_CHANNELS, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(_CONTEXT_CHANNELS * positions, width),
        )

    def shrink(self, images: Tensor) -> Tensor:
        """Return small copies `[n, 3, *size]` of images `[n, 3, h, w]`."""
        return functional.adaptive_avg_pool2d(images, self.size)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `[n, 3, h, w]` to the context `[n, width]`."""
        return cast(Tensor, self.layers(self.shrink(images)))


def _context_side(side: int) -> int:
    return max(1, min(_CONTEXT_SIDE, side // _CONTEXT_FACTOR))


class GlimpseDetector(nn.Module, ABC):
    """A detector that sees an image through windows, one after another, and can stop at any time.

    After t glimpses the score is

        v . s_t + a x mean of the log-odds of the target in the first t windows + b

    where s_t is the state that was gathered from them. v and b are 0 at first and a is 1, so that
    an untrained detector believes what the backbone says of its windows. If the target is not among
    the backbone's outputs, there is no second term.

    Args:
        encoder: encodes windows.
        glimpses: T, the largest number of glimpses.
        width: the number of dimensions of the state.
    """

    def __init__(self, encoder: GlimpseEncoder, glimpses: int, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.glimpses = glimpses
        self.readout = nn.Linear(width, 1)
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)
        self.trust: nn.Parameter | None = None
        if encoder.target is not None:
            self.trust = nn.Parameter(torch.ones(()))

    @abstractmethod
    def scores(self, images: Tensor, budget: int) -> Tensor:
        """Return the scores `[n, budget]` of images after each of the first `budget` glimpses."""

    def read(self, states: Sequence[Tensor], evidence: Sequence[Tensor]) -> Tensor:
        """Return the scores `[n, t]` after each of t glimpses.

        Args:
            states: the state after each glimpse, `[n, width]`.
            evidence: the log-odds of the target in each window, `[n]`.
        """
        scores = cast(Tensor, self.readout(torch.stack(tuple(states), dim=1))).squeeze(2)
        if self.trust is None:
            return scores
        total = torch.stack(tuple(evidence), dim=1).cumsum(dim=1)
        counts = torch.arange(1, len(evidence) + 1, device=total.device)
        return scores + self.trust * total / counts

    def predict(self, images: Tensor, budget: int) -> Tensor:
        """Return the scores `[n]` of images `[n, 3, h, w]` after the first `budget` glimpses.

        Raises:
            ValueError: if `budget` is not from 1 to `glimpses`.
        """
        if not 1 <= budget <= self.glimpses:
            raise ValueError(f"the budget must be from 1 to {self.glimpses} glimpses, not {budget}")
        return self.scores(images, budget)[:, -1]

    def forward(self, images: Tensor) -> Tensor:
        return self.predict(images, self.glimpses)


class EveryBudget(nn.Module):
    """Map images to the scores after each glimpse, `[n, T]`, for training.

    `fit_adam` averages the loss over them, as EDRAM does, so that every budget has a score to use.

    Args:
        detector: the detector to train.
    """

    def __init__(self, detector: GlimpseDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Tensor:
        return self.detector.scores(images, self.detector.glimpses)


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
