"""One side of a track: from its definition to the images of an episode."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnbench.backbones.backbone import Preprocessing
from attnbench.errors import AttnbenchError
from attnbench.stimuli.filtration import filtered
from attnbench.stimuli.generators import blend, noise
from attnbench.stimuli.preparing import Images, in_unit_range, normalise
from attnbench.stimuli.sources import Prepared, open_source, prepare
from attnbench.tasks import Blend, Filtration, Noise, Sample

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """Pictures by number: positives, then negatives, and what each is blended with, if it is."""

    positives: int
    pictures: Numbers
    partners: Numbers | None

    def part(self, rows: Numbers | slice) -> Draw:
        """Some of them; `positives` is that of the whole."""
        partners = None if self.partners is None else self.partners[rows]
        return Draw(self.positives, self.pictures[rows], partners)


class Side:
    """What is adapted on, or tested on.

    Args:
        role: 0 to adapt on, 1 to test on; the two draw different random numbers.
        sample: the definition.
        preprocessing: the backbone's.
        data: the data folder, or None for the hub.
    """

    def __init__(
        self, role: int, sample: Sample, preprocessing: Preprocessing, data: Path | None
    ) -> None:
        self._role = role
        self._sample = sample
        self._preprocessing = preprocessing
        self._data = data
        self._source = open_source(sample.source, data)
        self.name = self._source.name
        self.classes = self._source.classes

    @cached_property
    def pictures(self) -> Prepared:
        """All pictures that may be drawn; made when first needed, as a filter takes its time."""
        generator = self._sample.generator
        if isinstance(generator, Filtration):
            return filtered(self._source, generator, self._preprocessing, self._data)
        return prepare(self._source, self._preprocessing)

    def draw(self, target: str, targets: Sequence[str], seed: int) -> Draw:
        """The pictures of an episode, without replacement, the same each time.

        Raises:
            AttnbenchError: where there are too few.
        """
        label = self.classes.index(target)
        labels = self.pictures.labels
        rng = np.random.default_rng([seed, label, self._role])
        others = labels != label
        if self._sample.negatives_from == "targets":
            others &= np.isin(labels, [self.classes.index(name) for name in targets])
        candidates = np.flatnonzero(others)
        pos = self._choose(rng, np.flatnonzero(labels == label), self._sample.positives, target)
        neg = self._choose(rng, candidates, self._sample.negatives, f"no {target}")
        chosen = np.concatenate([pos, neg])
        partners = None
        if isinstance(self._sample.generator, Blend):
            partners = _partners(rng, labels, chosen, candidates)
        return Draw(len(pos), chosen, partners)

    def _choose(
        self, rng: np.random.Generator, candidates: Numbers, wanted: int | str, what: str
    ) -> Numbers:
        count = len(candidates) if wanted == "all" else int(wanted)
        if len(candidates) < max(count, 1):
            raise AttnbenchError(
                f"{self.name} has {len(candidates)} images of {what}, the task asks for "
                f"{max(count, 1)}"
            )
        return rng.choice(candidates, count, replace=False)

    def image_names(self, draw: Draw) -> tuple[str, ...]:
        """A name for each image: of a blend both pictures', under several levels of noise its own."""
        names = [self.pictures.image_name(number) for number in draw.pictures]
        generator = self._sample.generator
        if isinstance(generator, Noise) and isinstance(generator.sigma, tuple):
            levels = [generator.level(number) for number in draw.pictures.tolist()]
            names = [f"{name} (sigma {level:g})" for name, level in zip(names, levels, strict=True)]
        if draw.partners is not None:
            partners = [self.pictures.image_name(number) for number in draw.partners]
            names = [f"{one} + {other}" for one, other in zip(names, partners, strict=True)]
        return tuple(names)

    def pixels(self, draw: Draw) -> NDArray[np.uint8]:
        """The pictures drawn, before any generator, uint8 `[n, 3, s, s]`; then their partners."""
        everything = [self.pictures.load(draw.pictures)]
        if draw.partners is not None:
            everything.append(self.pictures.load(draw.partners))
        return np.concatenate(everything)

    def images(self, draw: Draw, seed: int, out: Images | None = None) -> Images:
        """What the detector gets, float32 `[n, 3, s, s]`, normalised."""
        return self.images_of(self.pixels(draw), draw, seed, out)

    def images_of(
        self, pixels: NDArray[np.uint8], draw: Draw, seed: int, out: Images | None = None
    ) -> Images:
        """The same from the drawn pictures' pixels; in `out` there is never an image half made."""
        count = len(draw.pictures)
        images = np.empty((count, *pixels.shape[1:]), np.float32) if out is None else out
        # One at a time: it stays in a processor's cache, and is the same in any order and batch.
        for place, number in enumerate(draw.pictures.tolist()):
            image = in_unit_range(pixels[place])
            match self._sample.generator:
                case Noise() as definition:
                    source = _noise_source(seed, self._role, number, pixels[place])
                    image = noise(image, definition.level(number), source)
                case Blend(alpha=alpha):
                    image = blend(image, in_unit_range(pixels[count + place]), alpha)
                case _:
                    pass
            normalise(image, self._preprocessing, images[place])
        return images


def _noise_source(
    seed: int, role: int, number: int, picture: NDArray[np.uint8]
) -> np.random.Generator:
    """Drawn from the episode's seed and the clean picture, so that who has only the noisy one cannot
    draw the same noise and take it away."""
    content = int.from_bytes(hashlib.sha256(picture.tobytes()).digest()[:16], "little")
    return np.random.default_rng([seed, role, number, content])


def _partners(
    rng: np.random.Generator, labels: NDArray[np.int64], chosen: Numbers, candidates: Numbers
) -> Numbers:
    """For each picture one of the candidates, which are without the target, of another class."""
    if len(np.unique(labels[candidates])) < 2:
        raise AttnbenchError("a blend of two classes without the target needs three classes")
    partners = rng.choice(candidates, len(chosen))
    while (same := labels[partners] == labels[chosen]).any():
        partners[same] = rng.choice(candidates, int(same.sum()))
    return partners
