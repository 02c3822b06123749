"""An episode: one target's images to adapt on, and its test images with their labels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attnbench.backbones.backbone import Preprocessing
from attnbench.stimuli.preprocessing import Images, in_unit_range, normalise

# The largest batch of test images. 5 MiB are 8 images of 224 pixels, which fit a CPU's caches.
_MAX_BATCH_BYTES, _MAX_BATCH_IMAGES = 5 << 20, 64
# The evaluator compares the times of batches, so there must be several for an outlier to stand out.
_MIN_BATCHES = 4


class ImageBuilder(Protocol):
    """Builds the test images with the given indices, float32 `[k, 3, H, W]`.

    An image has the same value in whatever order or batch it is built. If `out` is given, the images
    are written to it.
    """

    def __call__(self, order: NDArray[np.int64], out: Images | None = None) -> Images: ...


@dataclass(frozen=True)
class Episode:
    """One target of a task with one seed.

    Attributes:
        target: the target's name.
        seed: seeds the draw of images and the random numbers of the adaptation.
        label: the target's index in the backbone's labels, or None if it is new to the backbone.
        rivals: the backbone's labels that compete when a detector is read out by arg-max among the
            track's classes. Empty if detectors are not read out by arg-max.
        pos: positives to adapt on, float32 `[n, 3, H, W]`, normalised.
        neg: negatives to adapt on, float32 `[n, 3, H, W]`, normalised.
        present: whether the target is in each test image, bool `[n]`.
        image_ids: a name for each test image.
        fingerprint: the SHA-256 (hex) of the pixels of all pictures, before any generator.
        make: builds test images from their indices.
    """

    target: str
    seed: int
    label: int | None
    rivals: tuple[int, ...]
    pos: Images
    neg: Images
    present: NDArray[np.bool_]
    image_ids: tuple[str, ...]
    fingerprint: str
    make: ImageBuilder = field(repr=False)

    @property
    def asks_for_logits(self) -> bool:
        """Whether a detector that keeps the backbone's logits is also read out by arg-max."""
        return self.label in self.rivals

    def adapting_to(self, positives: int) -> Episode:
        """Return the episode with only its first images to adapt on, so that subsets are nested.

        Args:
            positives: how many positives to keep. Negatives are kept in proportion, rounded up.
        """
        negatives = math.ceil(positives * len(self.neg) / len(self.pos))
        return replace(self, pos=self.pos[:positives], neg=self.neg[:negatives])

    def tested_on_seen(self) -> Episode:
        """Return the episode with the images to adapt on as its test images."""
        images = np.concatenate([self.pos, self.neg])
        return replace(
            self,
            present=np.arange(len(images)) < len(self.pos),
            image_ids=tuple(f"adaptation image {number}" for number in range(len(images))),
            make=lambda order, out=None: np.take(images, order, axis=0, out=out),
        )

    def batches(self, order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Yield the indices of test images in batches of equal size.

        The last batch is filled up with images from the beginning. Kernels round differently for
        other batch sizes, so with batches of equal size a score is the same to the bit in any order.

        Args:
            order: the indices of the test images, int64 `[n]`, in the order of presentation.
        """
        max_size = max(1, min(_MAX_BATCH_IMAGES, _MAX_BATCH_BYTES // self.pos[:1].nbytes))
        size = _batch_size(len(order), max_size)
        filled = np.resize(order, math.ceil(len(order) / size) * size)
        for start in range(0, len(filled), size):
            yield filled[start : start + size]

    @classmethod
    def of_pixels(
        cls,
        pixels: NDArray[np.uint8],
        *,
        per_class: int,
        label: int | None,
        preprocessing: Preprocessing,
    ) -> Episode:
        """Return an episode of given pixels, for checks and benchmarks.

        Args:
            pixels: uint8 `[n, 3, H, W]`: positives and negatives to adapt on, then positives and
                negatives to test on.
            per_class: the number of images in each of these groups but the last, which has the rest.
            label: the target's index in the backbone's labels, or None.
            preprocessing: the backbone's.
        """
        images = normalise(in_unit_range(pixels), preprocessing)
        pos, neg, test = np.split(images, [per_class, 2 * per_class])
        return cls(
            target="made up",
            seed=0,
            label=label,
            rivals=(),
            pos=pos,
            neg=neg,
            present=np.arange(len(test)) < per_class,
            image_ids=tuple(f"made-up/{i}" for i in range(len(test))),
            fingerprint=hashlib.sha256(pixels.tobytes()).hexdigest(),
            make=lambda order, out=None: np.take(test, order, axis=0, out=out),
        )


def _batch_size(count: int, max_size: int) -> int:
    """Return the batch size up to `max_size` that needs the fewest images to fill the last batch.

    Multiples of 8 are preferred.
    """
    max_size = max(1, min(max_size, math.ceil(count / _MIN_BATCHES)))
    sizes = [size for size in range(max_size, max_size // 2, -1) if size % 8 == 0] or [max_size]
    return min(sizes, key=lambda size: -count % size)
