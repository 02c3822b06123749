"""What a worker finds ready when it is forked: a backbone to adapt, and all that a rehearsal needs."""

from __future__ import annotations

import copy
import itertools
import math
import random
import statistics
import time
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from attnbench.adaptation import balanced_loss, batches, frozen_outputs, quick_outputs
from attnbench.backbones.backbone import Backbone
from attnbench.evaluation.artefact import ArtefactPacker

# As many different images there are in a rehearsal, on each side.
_FEW = 8
# A pass is timed on batches that take so long together.
_PASS_SECONDS = 0.02
# So many numbers PyTorch has all of its threads add.
_SHARED_AMONG_THREADS = 1 << 20


class Stage:
    """The backbone that a submission adapts and one that it rehearses on, each with its packer.

    Made before a worker is forked, so that no worker has to. So are the images of a rehearsal; and what
    takes longer the first time in a process, to pack a detector and to set a seed, has been done once.

    Attributes:
        rehearsal_label: what a rehearsal has as target where the episode has one (see `_hardly_told`).
        warm: the sizes of batches that `warm_up` has looked at.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.warm: set[int] = set()
        self.packer = ArtefactPacker(backbone)
        self.rehearsal = copy.deepcopy(backbone)
        self.rehearsal_packer = ArtefactPacker(self.rehearsal)
        size = backbone.preprocessing.size
        self._made_up = [_made_up(size, side).to(device_of(backbone)) for side in range(2)]
        self.rehearsal_label = _hardly_told(backbone, self._made_up) if backbone.labels else None
        self.packer.pack(nn.Sequential(backbone, nn.Linear(1, 1)))
        seed(0)

    def on(self, device: str) -> Stage:
        """The same on another device."""
        return self if device == "cpu" else Stage(self.backbone.to(device))

    def set_target(self, label: int | None) -> None:
        """Aim at a label; the rehearsal at its own, or like the other at none of the backbone's."""
        self.backbone.target = label
        self.rehearsal.target = None if label is None else self.rehearsal_label

    def fewest(self, counts: Sequence[int]) -> list[int]:
        """How many of so many images a rehearsal needs to have on each side.

        On a CPU a few warm all there is to warm (docs/timing.md); a GPU's kernels want all.
        """
        on_cpu = device_of(self.backbone).type == "cpu"
        return [min(_FEW, count) if on_cpu else count for count in counts]

    def made_up(self, counts: Sequence[int]) -> list[Tensor]:
        """So many made-up images of positives and negatives, `[n, 3, h, w]`: few, over and over."""
        return [_repeated(few, count) for few, count in zip(self._made_up, counts, strict=True)]

    def warm_up(self, sizes: Iterable[int]) -> None:
        """Look at made-up images in batches of so many, in the ways in which workers will.

        A convolution is made for a size of batch, a layout and a number of threads, when first used.
        """
        for size in sizes:
            images = _repeated(self._made_up[1], size)
            with torch.no_grad():
                self.backbone(images)
            frozen_outputs(self.backbone, images)
            quick_outputs(self.backbone, images)
            self.warm.add(size)

    def batch_sizes(self, counts: Sequence[int]) -> list[int]:
        """The sizes of batches that a pass over so many images a side is timed on."""
        image = self._made_up[1][:1]
        sides = [image.expand(count, *image.shape[1:]) for count in counts]
        return sorted({min(next(batches(side)).stop, len(side)) for side in sides})

    def pass_seconds(self, counts: Sequence[int]) -> float:
        """Seconds of one no-grad forward over so many images, in float32 as PyTorch comes.

        On fine noise, which takes as long as pictures (docs/timing.md). Timed on as many batches of the
        sides' sizes as take 20 ms, after one of each that does not count: the median of the time per
        image, for all of them.
        """
        device = device_of(self.backbone)
        pieces = [_repeated(self._made_up[1], size) for size in self.batch_sizes(counts)]
        spent, per_image = 0.0, []
        with torch.no_grad():
            for piece in pieces:
                self.backbone(piece)
            for piece in itertools.cycle(pieces):
                synchronise(device)
                started = time.perf_counter()
                self.backbone(piece)
                synchronise(device)
                seconds = time.perf_counter() - started
                spent += seconds
                per_image.append(seconds / len(piece))
                if spent >= _PASS_SECONDS:
                    break
        return statistics.median(per_image) * sum(counts)


def _repeated(few: Tensor, count: int) -> Tensor:
    return few.repeat(math.ceil(count / len(few)), 1, 1, 1)[:count]


def _made_up(size: int, side: int) -> Tensor:
    """Noise `[8, 3, size, size]`: that of positives (side 0) is coarse, that of negatives (1) fine."""
    noise = torch.randn(_FEW, 3, size, size, generator=torch.Generator().manual_seed(side))
    if side == 0:
        grain = min(8, size)
        coarse = grain * nn.functional.avg_pool2d(noise, grain)  # of the same variance
        noise = nn.functional.interpolate(coarse, size=(size, size))
    return noise


def _hardly_told(backbone: Backbone, made_up: Sequence[Tensor]) -> int:
    """The label that tells positives from negatives worse than by chance, but hardly so.

    With it a method that stops when it can tell them apart finds about as much to learn as in an
    episode. With one that the network sees in no noise it would rehearse longer than it adapts.

    Args:
        backbone: its outputs are the labels' logits.
        made_up: images of positives and negatives, `[n, 3, h, w]`.
    """
    pos, neg = (
        torch.logit(quick_outputs(backbone, side).softmax(dim=1), eps=1e-6) for side in made_up
    )
    losses = torch.vmap(balanced_loss, in_dims=1)(pos, neg)
    return int(torch.where(losses < math.log(2), math.inf, losses).argmin())


def device_of(backbone: nn.Module) -> torch.device:
    """The device a backbone's parameters are on."""
    return next(backbone.parameters()).device


def start_up(backbone: Backbone) -> None:
    """Start what a process starts at its first use: a processor's threads, a GPU's kernels."""
    device = device_of(backbone)
    if device.type == "cuda":
        size = backbone.preprocessing.size
        with torch.no_grad():
            backbone(torch.zeros(1, 3, size, size, device=device))
    else:
        torch.zeros(_SHARED_AMONG_THREADS).add_(1)


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def seed(number: int) -> None:
    """Seed all random generators that a submission is likely to use."""
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)
