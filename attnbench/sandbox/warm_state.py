"""What a worker inherits when it is forked: a backbone to adapt, and all that a rehearsal needs.

Its `pass_seconds` times the forward pass that is the unit of adaptation times.
"""

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
from torch.nn.functional import softplus

from attnbench.backbones.backbone import Backbone
from attnbench.sandbox.packing import ArtefactPacker
from attnbench.sandbox.precision import PrecisionObserver

# How many different images a rehearsal has per class.
_REHEARSAL_IMAGES = 8
# Batches of a forward pass are timed until they add up to this many seconds.
_PASS_SECONDS = 0.02
# Bytes of images per batch of the timed pass. On a CPU, 5 MiB (8 images of 224 pixels) stay in the
# caches; a GPU needs larger batches to be busy.
_BATCH_BYTES_CPU, _BATCH_BYTES_GPU = 5 << 20, 256 << 20
# PyTorch splits an addition of this many numbers among all of its threads.
_PARALLEL_SIZE = 1 << 20


class WarmState:
    """The backbone that a submission adapts and a copy that it rehearses on, each with its packer.

    It is prepared before workers are forked, so that no worker has to prepare it. That includes the
    images of a rehearsal, and whatever is slow the first time in a process.

    Args:
        backbone: the backbone as it was loaded.

    Attributes:
        backbone: the backbone to adapt.
        packer: packs detectors made from it.
        rehearsal: the copy to rehearse on. A submission may change it, so it serves once.
        rehearsal_packer: packs detectors made from the copy.
        rehearsal_label: the target of a rehearsal if the episode has one (see `_hardest_label`).
        warm_sizes: the batch sizes that `warm_up` has run.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.warm_sizes: set[int] = set()
        self.packer = ArtefactPacker(backbone)
        size = backbone.preprocessing.size
        noise = (_noise_images(size, coarse=coarse) for coarse in (True, False))
        self._noise = [images.to(device_of(backbone)) for images in noise]
        self.rehearsal_label = _hardest_label(backbone, *self._noise) if backbone.labels else None
        self.renew_rehearsal()
        # Packing a detector, observing and setting a seed are slow the first time in a process.
        self.packer.pack(nn.Sequential(backbone, nn.Linear(1, 1)))
        with torch.no_grad(), PrecisionObserver():
            backbone(self._noise[1][:1])
        set_seed(0)

    def renew_rehearsal(self) -> None:
        """Make another copy to rehearse on. The backbone must still be as it was loaded."""
        self.rehearsal = copy.deepcopy(self.backbone)
        if self.backbone.target is not None:
            self.rehearsal.target = self.rehearsal_label
        self.rehearsal_packer = ArtefactPacker(self.rehearsal)

    def on(self, device: str) -> WarmState:
        """Return this state on a device, `cpu` or `cuda`."""
        return self if device == "cpu" else WarmState(self.backbone.to(device))

    def set_target(self, label: int | None) -> None:
        """Set the target of the backbone, and that of the copy for the rehearsal.

        Args:
            label: the index of the episode's target, or None if it is new to the backbone. Then the
                rehearsal has no label either.
        """
        self.backbone.target = label
        self.rehearsal.target = None if label is None else self.rehearsal_label

    def noise_images(self, counts: Sequence[int]) -> list[Tensor]:
        """Return noise images that stand for positives and for negatives.

        Args:
            counts: how many of each. The same few images are repeated.

        Returns:
            float32 `[n, 3, size, size]` for each count.
        """
        return [
            _repeat_to(images, count) for images, count in zip(self._noise, counts, strict=True)
        ]

    def warm_up(self, sizes: Iterable[int]) -> None:
        """Run the backbone on batches of these sizes, as anybody would call it.

        oneDNN creates a kernel for each combination of batch size and number of threads when it is
        first used. Kernels for other memory layouts and precisions are left to the rehearsal.

        Args:
            sizes: the batch sizes.
        """
        for size in sizes:
            with torch.no_grad():
                self.backbone(_repeat_to(self._noise[1], size))
            self.warm_sizes.add(size)

    def pass_batch_sizes(self, counts: Sequence[int]) -> list[int]:
        """Return the batch sizes on which a forward pass is timed.

        Args:
            counts: the numbers of positives and of negatives that the pass goes over.
        """
        image = self._noise[1][:1]
        on_gpu = image.device.type == "cuda"
        largest = max(1, (_BATCH_BYTES_GPU if on_gpu else _BATCH_BYTES_CPU) // image.nbytes)
        return sorted({min(largest, count) for count in counts})

    def pass_seconds(self, counts: Sequence[int]) -> float:
        """Time the backbone's forward pass: no-grad, float32, with PyTorch's defaults.

        The images are fine noise, which takes as long as photographs do (docs/timing.md). First, one
        batch of each size runs untimed. Then batches are timed until they add up to `_PASS_SECONDS`.

        Args:
            counts: the numbers of positives and of negatives that the pass goes over.

        Returns:
            The median seconds per image, times the number of images.
        """
        device = device_of(self.backbone)
        batches = [_repeat_to(self._noise[1], size) for size in self.pass_batch_sizes(counts)]
        spent, per_image = 0.0, []
        with torch.no_grad():
            for batch in batches:
                self.backbone(batch)
            for batch in itertools.cycle(batches):
                synchronise(device)
                started = time.perf_counter()
                self.backbone(batch)
                synchronise(device)
                seconds = time.perf_counter() - started
                spent += seconds
                per_image.append(seconds / len(batch))
                if spent >= _PASS_SECONDS:
                    break
        return statistics.median(per_image) * sum(counts)


def _repeat_to(images: Tensor, count: int) -> Tensor:
    return images.repeat(math.ceil(count / len(images)), 1, 1, 1)[:count]


def _noise_images(size: int, *, coarse: bool) -> Tensor:
    """Noise `[8, 3, size, size]` of unit variance, coarse for positives and fine for negatives."""
    generator = torch.Generator().manual_seed(0 if coarse else 1)
    noise = torch.randn(_REHEARSAL_IMAGES, 3, size, size, generator=generator)
    if coarse:
        grain = min(8, size)
        # The mean of grain^2 values has 1/grain of their standard deviation.
        averaged = grain * nn.functional.avg_pool2d(noise, grain)
        noise = nn.functional.interpolate(averaged, size=(size, size))
    return noise


@torch.no_grad()
def _hardest_label(backbone: Backbone, pos: Tensor, neg: Tensor) -> int:
    """Return the label whose log-odds separate the noise images just worse than chance.

    A method that stops once it separates positives from negatives then has about as much to learn in
    a rehearsal as in an episode. With a label that the network never sees in noise, a rehearsal
    would take longer than an adaptation.

    Args:
        backbone: its outputs are the labels' logits.
        pos, neg: noise images, `[n, 3, h, w]`.
    """
    pos_odds, neg_odds = (
        torch.logit(backbone(images).softmax(dim=1), eps=1e-6) for images in (pos, neg)
    )
    # The class-balanced logistic loss of each label. Chance is log 2.
    losses = (softplus(-pos_odds).mean(dim=0) + softplus(neg_odds).mean(dim=0)) / 2
    return int(torch.where(losses < math.log(2), math.inf, losses).argmin())


def device_of(backbone: nn.Module) -> torch.device:
    """Return the device that a backbone's parameters are on."""
    return next(backbone.parameters()).device


def start_threads(backbone: Backbone) -> None:
    """Start the CPU's thread pool or load the GPU's kernels, as the first use would do."""
    device = device_of(backbone)
    if device.type == "cuda":
        size = backbone.preprocessing.size
        with torch.no_grad():
            backbone(torch.zeros(1, 3, size, size, device=device))
    else:
        torch.zeros(_PARALLEL_SIZE).add_(1)


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has finished its work. On a CPU, do nothing."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def set_seed(number: int) -> None:
    """Seed every random-number generator that a submission is likely to use."""
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)
