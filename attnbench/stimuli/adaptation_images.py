"""The images that episodes adapt on, which several tracks may share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from attnbench.stimuli.duplicates import contents_of
from attnbench.stimuli.image_sets import ImageSet
from attnbench.stimuli.preprocessing import Images
from attnbench.task_schema import Track


class Digest(Protocol):
    """A hash of `hashlib` that more can be added to."""

    def copy(self) -> Digest: ...
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True)
class AdaptationImages:
    """What one episode adapts on.

    Attributes:
        pos, neg: positives and negatives, float32 `[n, 3, H, W]`, normalised.
        contents: an index in the image set for the content of each picture, blending partners
            included.
        digest: the SHA-256 so far of the pixels of all pictures, before any generator.
    """

    pos: Images
    neg: Images
    contents: dict[bytes, int]
    digest: Digest


class AdaptationSource:
    """Draws the images to adapt on, and keeps the last ones: tracks that share them ask in turn.

    Args:
        images: the image set to draw from.
        image_shape: the shape of an image, `(3, H, W)`.
    """

    def __init__(self, images: ImageSet, image_shape: tuple[int, int, int]) -> None:
        self.images = images
        self._image_shape = image_shape
        self._last: tuple[tuple[str, int, bytes], AdaptationImages] | None = None

    def draw(self, target: str, targets: Sequence[str], seed: int) -> AdaptationImages:
        """Return the images of an episode; the same object as before if they are the last ones.

        Args:
            target: the class to detect.
            targets: all targets of the track.
            seed: the episode's seed.

        Raises:
            AttnbenchError: if there are too few pictures, or one of them is damaged.
        """
        selection = self.images.select(target, targets, seed)
        key = target, seed, selection.all_pictures.tobytes()
        if self._last is None or self._last[0] != key:
            self._last = None  # two sets of images at once may not fit into memory
            digest = hashlib.sha256()
            images: Images = np.empty((len(selection.pictures), *self._image_shape), np.float32)
            contents: dict[bytes, int] = {}
            for chunk in selection.chunks():
                part = selection.subset(chunk)
                pictures = self.images.load_pictures(part)
                digest.update(pictures.tobytes())
                contents |= contents_of(pictures, part.all_pictures)
                self.images.images_from_pictures(pictures, part, seed, images[chunk])
            count = selection.positive_count
            drawn = AdaptationImages(images[:count], images[count:], contents, digest)
            self._last = key, drawn
        return self._last[1]


def shared_definition(track: Track) -> str:
    """Return a text that is equal for tracks whose episodes have the same images to adapt on.

    It covers what the images and the target's label depend on, besides the backbone. It is not JSON,
    which lacks the folder that paths in a task file are relative to.
    """
    targets = track.targets if track.adapt.negatives_from == "targets" else None
    return repr((track.adapt, track.labels, targets))
