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
from attnbench.stimuli.preparing import Images, in_unit_range, normalise
from attnbench.stimuli.sides import Draw, Side
from attnbench.tasks import Track

# So many bytes of images go together, and so many images at most: a CPU's caches hold 8 of 224 pixels.
_BATCH_BYTES, _BATCH_IMAGES = 5 << 20, 64
# In so many batches at least, so that one which takes longer than the others shows.
_LEAST_BATCHES = 4


class Maker(Protocol):
    """Builds the test images with these indices, float32 `[k, 3, H, W]`, in `out` if that is given.

    An image is the same whatever others it is built with.
    """

    def __call__(self, order: NDArray[np.int64], out: Images | None = None) -> Images: ...


@dataclass(frozen=True)
class Episode:
    """One target with one seed.

    Attributes:
        target: its name; `label` its index among the backbone's labels, None where it is new.
        seed: of the draw, and of the adaptation's random numbers.
        rivals: the backbone's labels that arg-max of the track's classes chooses among; empty where
            detectors are not to be read out by arg-max.
        pos, neg: float32 `[n, 3, H, W]`, normalised, to adapt on.
        present: bool `[n]`, whether the target is in each test image.
        image_ids: a name for each test image.
        fingerprint: SHA-256 (hex) over the pixels of all images, before any generator.
        make: builds test images.
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
    make: Maker = field(repr=False)

    @property
    def asks_for_logits(self) -> bool:
        """Whether a detector with logits is to be read out by arg-max too."""
        return self.label in self.rivals

    def batches(self, order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Indices of test images in batches of one size, the last one filled up from the beginning.

        Kernels round otherwise for another size: so that a score is the same in any order to the bit,
        no batch is smaller than the others.
        """
        most = max(1, min(_BATCH_IMAGES, _BATCH_BYTES // self.pos[:1].nbytes))
        step = _batch_size(len(order), most)
        filled = np.resize(order, math.ceil(len(order) / step) * step)
        for start in range(0, len(filled), step):
            yield filled[start : start + step]

    @classmethod
    def of_pixels(
        cls,
        pixels: NDArray[np.uint8],
        *,
        per_side: int,
        label: int | None,
        preprocessing: Preprocessing,
    ) -> Episode:
        """An episode of given pictures, uint8 `[4 * per_side, 3, H, W]`: pos, neg, test, in order."""
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
    """All episodes of a track, as one backbone is to see them.

    Args:
        track: its definition.
        preprocessing: the backbone's.
        labels: the backbone's labels, None where it has none.
        data: the data folder, or None for the hub.

    Raises:
        AttnbenchError: where data is not there, or a target is not among the classes.
    """

    def __init__(
        self,
        track: Track,
        preprocessing: Preprocessing,
        labels: tuple[str, ...] | None,
        data: Path | None,
    ) -> None:
        self._labels = labels
        self._shape = (3, preprocessing.size, preprocessing.size)
        self._adapt = Side(0, track.adapt, preprocessing, data)
        self._test = Side(1, track.test, preprocessing, data)
        self._with_logits = track.logits
        named = {"all": self._test.classes, "imagenet-a": IMAGENET_A_WNIDS}
        self.targets = named[track.targets] if isinstance(track.targets, str) else track.targets
        for target in self.targets:
            for side in (self._adapt, self._test):
                if target not in side.classes:
                    raise AttnbenchError(
                        f"target {target!r} is not a class of {side.name}; "
                        f"its classes are {', '.join(side.classes)}"[:1000]
                    )

    def episode(self, target: str, seed: int) -> Episode:
        """The episode of this target and seed: the same images each time.

        Raises:
            AttnbenchError: where there are too few images, or one cannot be decoded.
        """
        adapt = self._adapt.draw(target, self.targets, seed)
        test = self._test.draw(target, self.targets, seed)
        digest = hashlib.sha256()
        images: Images = np.empty((len(adapt.pictures), *self._shape), np.float32)
        for rows in _parts(adapt):
            part = adapt.part(rows)
            pixels = self._adapt.pixels(part)
            digest.update(pixels.tobytes())
            self._adapt.images_of(pixels, part, seed, images[rows])
        for rows in _parts(test):
            digest.update(self._test.pixels(test.part(rows)).tobytes())
        labels = self._labels or ()
        return Episode(
            target=target,
            seed=seed,
            label=labels.index(target) if target in labels else None,
            rivals=tuple(labels.index(name) for name in self.targets if name in labels)
            if self._with_logits
            else (),
            pos=images[: adapt.positives],
            neg=images[adapt.positives :],
            present=np.arange(len(test.pictures)) < test.positives,
            image_ids=self._test.image_names(test),
            fingerprint=digest.hexdigest(),
            make=lambda order, out=None: self._test.images(test.part(order), seed, out),
        )


def _batch_size(count: int, most: int) -> int:
    """The size up to `most`, a multiple of 8 where that can be, that leaves least to be filled up."""
    most = max(1, min(most, math.ceil(count / _LEAST_BATCHES)))
    sizes = [size for size in range(most, most // 2, -1) if size % 8 == 0] or [most]
    return min(sizes, key=lambda size: -count % size)


def _parts(draw: Draw) -> Iterator[slice]:
    """Some of its pictures at a time."""
    for start in range(0, len(draw.pictures), _BATCH_IMAGES):
        yield slice(start, start + _BATCH_IMAGES)
