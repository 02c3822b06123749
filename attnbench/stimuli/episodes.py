"""Episodes: the images to adapt on and to test on, drawn from a track's sources by seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from attnbench.backbones.backbone import Preprocessing
from attnbench.errors import AttnbenchError
from attnbench.stimuli.generators import noise
from attnbench.stimuli.sources import Picture, Source, open_source
from attnbench.tasks import Sample, Track

BATCH = 64
_ADAPT, _TEST = 0, 1

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Episode:
    """One target with one seed.

    Attributes:
        target: its name; `label` its index among the backbone's labels, None where it is new.
        seed: of the draw, and of the adaptation's random numbers.
        pos, neg: float32 `[n, 3, H, W]`, normalised, to adapt on.
        present: bool `[n]`, whether the target is in each test image.
        image_ids: a name for each test image.
        fingerprint: SHA-256 (hex) over the pixels of all images, before any generator.
        make: builds the test images with these indices, float32 `[k, 3, H, W]`.
    """

    target: str
    seed: int
    label: int | None
    pos: Images
    neg: Images
    present: NDArray[np.bool_]
    image_ids: tuple[str, ...]
    fingerprint: str
    make: Callable[[NDArray[np.int64]], Images] = field(repr=False)

    def test_images(self, order: NDArray[np.int64]) -> Iterator[Images]:
        """The test images in this order, in batches of at most 64; an image is the same in any."""
        for start in range(0, len(order), BATCH):
            yield self.make(order[start : start + BATCH])

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
        images = normalise(pixels.astype(np.float32) / np.float32(255), preprocessing)
        pos, neg, test = np.split(images, [per_side, 2 * per_side])
        return cls(
            target="made up",
            seed=0,
            label=label,
            pos=pos,
            neg=neg,
            present=np.arange(len(test)) < per_side,
            image_ids=tuple(f"made-up/{i}" for i in range(len(test))),
            fingerprint=hashlib.sha256(pixels.tobytes()).hexdigest(),
            make=lambda order: test[order],
        )


@dataclass(frozen=True)
class _Side:
    """One side of a track: its definition and its source."""

    role: int
    sample: Sample
    source: Source

    def draw(self, target: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of positives and of negatives, without replacement."""
        labels = self.source.labels
        rng = np.random.default_rng([seed, target, self.role])
        where = (np.flatnonzero(labels == target), np.flatnonzero(labels != target))
        wanted = (self.sample.positives, self.sample.negatives)
        for rows, count, kind in zip(where, wanted, ("with", "without"), strict=True):
            if len(rows) < count:
                raise AttnbenchError(
                    f"{self.source.name} has {len(rows)} images {kind} "
                    f"{self.source.classes[target]!r}, the task asks for {count}"
                )
        pos, neg = (
            rng.choice(rows, count, replace=False)
            for rows, count in zip(where, wanted, strict=True)
        )
        return pos, neg


class TrackStimuli:
    """All episodes of a track, as one backbone is to see them.

    Args:
        track: its definition.
        preprocessing: the backbone's.
        labels: the backbone's labels, None where it has none.
        data: the data folder, or None for the hub.

    Raises:
        AttnbenchError: where data is not there or too few, or a target is not among the classes.
    """

    def __init__(
        self,
        track: Track,
        preprocessing: Preprocessing,
        labels: tuple[str, ...] | None,
        data: Path | None,
    ) -> None:
        self._preprocessing = preprocessing
        self._labels = labels
        self._adapt = _Side(_ADAPT, track.adapt, open_source(track.adapt.source, data))
        self._test = _Side(_TEST, track.test, open_source(track.test.source, data))
        self.targets = self._adapt.source.classes if track.targets == "all" else track.targets
        for target in self.targets:
            for side in (self._adapt, self._test):
                if target not in side.source.classes:
                    raise AttnbenchError(
                        f"target {target!r} is not a class of {side.source.name}; "
                        f"its classes are {', '.join(side.source.classes)}"
                    )

    def episode(self, target: str, seed: int) -> Episode:
        """The episode of this target and seed: the same images each time."""
        pos, neg = self._adapt.draw(self._adapt.source.classes.index(target), seed)
        present, absent = self._test.draw(self._test.source.classes.index(target), seed)
        rows = np.concatenate([present, absent])
        digest = hashlib.sha256()
        adapted = [self._images(self._adapt, side, seed, digest.update) for side in (pos, neg)]
        for start in range(0, len(rows), BATCH):
            digest.update(self._pixels(self._test, rows[start : start + BATCH]).tobytes())
        known = self._labels is not None and target in self._labels
        return Episode(
            target=target,
            seed=seed,
            label=self._labels.index(target) if known and self._labels is not None else None,
            pos=adapted[0],
            neg=adapted[1],
            present=np.arange(len(rows)) < len(present),
            image_ids=tuple(f"{self._test.source.name}/{row}" for row in rows),
            fingerprint=digest.hexdigest(),
            make=lambda order: self._images(self._test, rows[order], seed),
        )

    def _pixels(self, side: _Side, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        pictures = side.source.load(rows.tolist())
        return np.stack([resize_and_crop(picture, self._preprocessing) for picture in pictures])

    def _images(
        self,
        side: _Side,
        rows: NDArray[np.int64],
        seed: int,
        note: Callable[[bytes], None] = lambda pixels: None,
    ) -> Images:
        pixels = self._pixels(side, rows)
        note(pixels.tobytes())
        images = pixels.astype(np.float32) / np.float32(255)
        generator = side.sample.generator
        if generator is not None:
            # Each image has noise of its own, by its row: the same in any order and any batch.
            images = np.stack(
                [
                    noise(image, generator.sigma, np.random.default_rng([seed, side.role, row]))
                    for image, row in zip(images, rows.tolist(), strict=True)
                ]
            )
        return normalise(images, self._preprocessing)


def resize_and_crop(picture: Picture, preprocessing: Preprocessing) -> Picture:
    """Shorter side to `resize` (bilinear, antialiased), centre `size` x `size`: uint8 `[3, s, s]`."""
    if (
        picture.shape[1:] == (preprocessing.size,) * 2
        and preprocessing.resize == preprocessing.size
    ):
        return picture
    height, width = picture.shape[1:]
    shorter = min(height, width)
    # torchvision's `resize` on tensors is this very call; importing torchvision takes two seconds
    resized = interpolate(
        torch.from_numpy(np.ascontiguousarray(picture))[None],
        (preprocessing.resize * height // shorter, preprocessing.resize * width // shorter),
        mode="bilinear",
        antialias=True,
    )[0]
    top, left = (round((side - preprocessing.size) / 2) for side in resized.shape[1:])
    cropped: Picture = resized[
        :, top : top + preprocessing.size, left : left + preprocessing.size
    ].numpy()
    return cropped


def normalise(images: Images, preprocessing: Preprocessing) -> Images:
    """(pixel - mean) / std per channel; float32 `[n, 3, H, W]` in and out."""
    mean, std = (
        np.array(values, np.float32)[:, None, None]
        for values in (preprocessing.mean, preprocessing.std)
    )
    return (images - mean) / std


def rows_of(sequence: Sequence[int]) -> NDArray[np.int64]:
    """Indices as the int64 array that `Episode.test_images` takes."""
    return np.asarray(sequence, dtype=np.int64)
