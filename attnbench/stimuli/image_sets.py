"""The images to adapt on, or to test on: from a task's sample to normalised images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnbench.backbones.backbone import Preprocessing
from attnbench.errors import AttnbenchError
from attnbench.stimuli.filtration import filter_pictures
from attnbench.stimuli.generators import blend, noise
from attnbench.stimuli.preprocessing import Images, in_unit_range, normalise
from attnbench.stimuli.sources import PreparedPictures, open_source, prepare
from attnbench.tasks import Blend, Filtration, Noise, Sample

Indices = NDArray[np.int64]


class Role(IntEnum):
    """What an image set is for. The value seeds its random draws, so that the two sets differ."""

    ADAPT = 0
    TEST = 1


@dataclass(frozen=True)
class Selection:
    """Pictures selected for an episode, by their index in an image set.

    Attributes:
        positive_count: the number of positives in the complete selection.
        pictures: positives, then negatives, int64 `[n]`.
        partners: the picture that each one is blended with, int64 `[n]`, or None without a blend.
    """

    positive_count: int
    pictures: Indices
    partners: Indices | None

    def subset(self, positions: Indices | slice) -> Selection:
        """Return the pictures at some positions. `positive_count` keeps its value."""
        partners = None if self.partners is None else self.partners[positions]
        return Selection(self.positive_count, self.pictures[positions], partners)


class ImageSet:
    """The images that a track's episodes adapt on, or those that they test on.

    Args:
        role: whether the images are for adaptation or for testing.
        sample: the definition in the task.
        preprocessing: the backbone's.
        data: the data folder, or None to load from the hub.

    Attributes:
        name: the source's name.
        classes: the names of the source's classes.

    Raises:
        AttnbenchError: if the source's data is missing or damaged.
    """

    def __init__(
        self, role: Role, sample: Sample, preprocessing: Preprocessing, data: Path | None
    ) -> None:
        self._role = role
        self._sample = sample
        self._preprocessing = preprocessing
        self._data = data
        self._source = open_source(sample.source, data)
        self.name = self._source.name
        self.classes = self._source.classes

    @cached_property
    def pictures(self) -> PreparedPictures:
        """All pictures that can be selected. Computed when first used, as filtration takes minutes."""
        generator = self._sample.generator
        if isinstance(generator, Filtration):
            return filter_pictures(self._source, generator, self._preprocessing, self._data)
        return prepare(self._source, self._preprocessing)

    def select(self, target: str, targets: Sequence[str], seed: int) -> Selection:
        """Select the pictures of an episode, without replacement and reproducibly.

        Args:
            target: the class to detect.
            targets: all targets of the track, from which negatives may be limited.
            seed: the episode's seed.

        Raises:
            AttnbenchError: if there are too few pictures.
        """
        label = self.classes.index(target)
        labels = self.pictures.labels
        # The order of the draws below is part of every record: positives, negatives, partners.
        rng = np.random.default_rng([seed, label, self._role])
        is_candidate = labels != label
        if self._sample.negatives_from == "targets":
            is_candidate &= np.isin(labels, [self.classes.index(name) for name in targets])
        candidates = np.flatnonzero(is_candidate)
        pos = self._choose(rng, np.flatnonzero(labels == label), self._sample.positives, target)
        neg = self._choose(rng, candidates, self._sample.negatives, f"no {target}")
        pictures = np.concatenate([pos, neg])
        partners = None
        if isinstance(self._sample.generator, Blend):
            partners = _choose_partners(rng, labels, pictures, candidates)
        return Selection(len(pos), pictures, partners)

    def _choose(
        self, rng: np.random.Generator, candidates: Indices, wanted: int | str, content: str
    ) -> Indices:
        count = len(candidates) if wanted == "all" else int(wanted)
        if len(candidates) < max(count, 1):
            raise AttnbenchError(
                f"{self.name} has {len(candidates)} images of {content}, but the task needs "
                f"{max(count, 1)}"
            )
        return rng.choice(candidates, count, replace=False)

    def image_names(self, selection: Selection) -> tuple[str, ...]:
        """Return a name for each image.

        It is the picture's name. A blend is named after both pictures. If the task has several noise
        levels, the name includes the image's level.
        """
        names = [self.pictures.image_name(index) for index in selection.pictures]
        generator = self._sample.generator
        if isinstance(generator, Noise) and isinstance(generator.sigma, tuple):
            levels = [generator.level(index) for index in selection.pictures.tolist()]
            names = [f"{name} (sigma {level:g})" for name, level in zip(names, levels, strict=True)]
        if selection.partners is not None:
            partner_names = [self.pictures.image_name(index) for index in selection.partners]
            names = [
                f"{name} + {partner}" for name, partner in zip(names, partner_names, strict=True)
            ]
        return tuple(names)

    def load_pictures(self, selection: Selection) -> NDArray[np.uint8]:
        """Load the selected pictures, before any generator.

        Returns:
            uint8 `[n, 3, size, size]`, or `[2 n, 3, size, size]` for a blend, with the partners last.

        Raises:
            AttnbenchError: if a picture is damaged.
        """
        pictures = [self.pictures.load(selection.pictures)]
        if selection.partners is not None:
            pictures.append(self.pictures.load(selection.partners))
        return np.concatenate(pictures)

    def build_images(self, selection: Selection, seed: int, out: Images | None = None) -> Images:
        """Load the selected pictures and turn them into images; see `images_from_pictures`."""
        return self.images_from_pictures(self.load_pictures(selection), selection, seed, out)

    def images_from_pictures(
        self,
        pictures: NDArray[np.uint8],
        selection: Selection,
        seed: int,
        out: Images | None = None,
    ) -> Images:
        """Apply the generator to pictures and normalise them.

        Args:
            pictures: what `load_pictures` returns for this selection.
            selection: the selection.
            seed: the episode's seed.
            out: where the images are written. Only finished images are: a worker may read this
                memory, and must not see, for example, an image before its noise is added.

        Returns:
            float32 `[n, 3, size, size]`; `out` if it is given.
        """
        count = len(selection.pictures)
        images = np.empty((count, *pictures.shape[1:]), np.float32) if out is None else out
        # One image at a time: it stays in the processor's cache, and its value cannot depend on the
        # order or the batch it is built in.
        for position, index in enumerate(selection.pictures.tolist()):
            image = in_unit_range(pictures[position])
            match self._sample.generator:
                case Noise() as definition:
                    rng = _noise_rng(seed, self._role, index, pictures[position])
                    image = noise(image, definition.level(index), rng)
                case Blend(alpha=alpha):
                    image = blend(image, in_unit_range(pictures[count + position]), alpha)
                case _:
                    pass
            normalise(image, self._preprocessing, images[position])
        return images


def _noise_rng(seed: int, role: int, index: int, picture: NDArray[np.uint8]) -> np.random.Generator:
    """Return the random generator for one image's noise.

    The clean picture is part of the seed. A detector, which has only the noisy image, therefore cannot
    draw the same noise again and subtract it.
    """
    content = int.from_bytes(hashlib.sha256(picture.tobytes()).digest()[:16], "little")
    return np.random.default_rng([seed, role, index, content])


def _choose_partners(
    rng: np.random.Generator, labels: NDArray[np.int64], pictures: Indices, candidates: Indices
) -> Indices:
    """Choose a blending partner of another class for each picture.

    Args:
        rng: the generator to draw from.
        labels: the class index of every picture of the set, int64 `[N]`.
        pictures: the selected pictures, int64 `[n]`.
        candidates: the pictures without the target, from which partners are drawn with replacement.

    Returns:
        int64 `[n]`.

    Raises:
        AttnbenchError: if the candidates have fewer than two classes.
    """
    # With a single class of candidates, the loop below would never end for a negative.
    if len(np.unique(labels[candidates])) < 2:
        raise AttnbenchError(
            "cannot blend: a negative is a blend of two classes without the target, "
            "so the source needs at least three classes"
        )
    partners = rng.choice(candidates, len(pictures))
    while (same_class := labels[partners] == labels[pictures]).any():
        partners[same_class] = rng.choice(candidates, int(same_class.sum()))
    return partners
