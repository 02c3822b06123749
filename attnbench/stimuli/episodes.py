"""Episodes: the images to adapt on and to test on, drawn from a track's sources by seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attnbench.backbones.backbone import Preprocessing
from attnbench.backbones.imagenet import IMAGENET_A_WNIDS
from attnbench.errors import AttnbenchError
from attnbench.stimuli.image_sets import ImageSet, Role, Selection
from attnbench.stimuli.preprocessing import Images, in_unit_range, normalise
from attnbench.tasks import Track

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
        per_side: int,
        label: int | None,
        preprocessing: Preprocessing,
    ) -> Episode:
        """Return an episode of given pixels, for checks and benchmarks.

        Args:
            pixels: uint8 `[4 * per_side, 3, H, W]`: positives and negatives to adapt on, then
                positives and negatives to test on.
            per_side: the number of images in each of these four groups.
            label: the target's index in the backbone's labels, or None.
            preprocessing: the backbone's.
        """
        images = normalise(in_unit_range(pixels), preprocessing)
        pos, neg, test = np.split(images, [per_side, 2 * per_side])
        return cls(
            target="made up",
            seed=0,
            label=label,
            rivals=(),
            pos=pos,
            neg=neg,
            present=np.arange(len(test)) < per_side,
            image_ids=tuple(f"made-up/{i}" for i in range(len(test))),
            fingerprint=hashlib.sha256(pixels.tobytes()).hexdigest(),
            make=lambda order, out=None: np.take(test, order, axis=0, out=out),
        )


class TrackStimuli:
    """The episodes of a track, prepared for one backbone.

    Args:
        track: the track's definition.
        preprocessing: the backbone's.
        labels: the backbone's labels, or None if it has none.
        data: the data folder, or None to load from the hub.

    Attributes:
        targets: the names of the track's targets.

    Raises:
        AttnbenchError: if data is missing or damaged, or a target is not a class of its source.
    """

    def __init__(
        self,
        track: Track,
        preprocessing: Preprocessing,
        labels: tuple[str, ...] | None,
        data: Path | None,
    ) -> None:
        self._labels = labels
        self._image_shape = (3, preprocessing.size, preprocessing.size)
        self._adapt = ImageSet(Role.ADAPT, track.adapt, preprocessing, data)
        self._test = ImageSet(Role.TEST, track.test, preprocessing, data)
        self._with_logits = track.logits
        named_targets = {"all": self._test.classes, "imagenet-a": IMAGENET_A_WNIDS}
        self.targets = (
            named_targets[track.targets] if isinstance(track.targets, str) else track.targets
        )
        for target in self.targets:
            for image_set in (self._adapt, self._test):
                if target not in image_set.classes:
                    raise AttnbenchError(
                        f"target {target!r} is not a class of {image_set.name}; "
                        f"its classes are {', '.join(image_set.classes)}"[:1000]
                    )

    def episode(self, target: str, seed: int) -> Episode:
        """Return the episode of this target and seed, with the same images every time.

        Raises:
            AttnbenchError: if there are too few pictures, or one of them is damaged.
        """
        adapt = self._adapt.select(target, self.targets, seed)
        test = self._test.select(target, self.targets, seed)
        digest = hashlib.sha256()
        images: Images = np.empty((len(adapt.pictures), *self._image_shape), np.float32)
        for chunk in _chunks(adapt):
            part = adapt.subset(chunk)
            pictures = self._adapt.load_pictures(part)
            digest.update(pictures.tobytes())
            self._adapt.images_from_pictures(pictures, part, seed, images[chunk])
        # Test pictures are loaded for the fingerprint now, and again when their images are built:
        # all images of a test set at once may not fit into memory.
        for chunk in _chunks(test):
            digest.update(self._test.load_pictures(test.subset(chunk)).tobytes())
        labels = self._labels or ()
        rivals: tuple[int, ...] = ()
        if self._with_logits:
            rivals = tuple(labels.index(name) for name in self.targets if name in labels)
        return Episode(
            target=target,
            seed=seed,
            label=labels.index(target) if target in labels else None,
            rivals=rivals,
            pos=images[: adapt.positive_count],
            neg=images[adapt.positive_count :],
            present=np.arange(len(test.pictures)) < test.positive_count,
            image_ids=self._test.image_names(test),
            fingerprint=digest.hexdigest(),
            make=lambda order, out=None: self._test.build_images(test.subset(order), seed, out),
        )


def _batch_size(count: int, max_size: int) -> int:
    """Return the batch size up to `max_size` that needs the fewest images to fill the last batch.

    Multiples of 8 are preferred.
    """
    max_size = max(1, min(max_size, math.ceil(count / _MIN_BATCHES)))
    sizes = [size for size in range(max_size, max_size // 2, -1) if size % 8 == 0] or [max_size]
    return min(sizes, key=lambda size: -count % size)


def _chunks(selection: Selection) -> Iterator[slice]:
    """Yield slices of a selection that are small enough to be loaded at once."""
    for start in range(0, len(selection.pictures), _MAX_BATCH_IMAGES):
        yield slice(start, start + _MAX_BATCH_IMAGES)
