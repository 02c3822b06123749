"""The images to adapt on, or to test on: from a task's sample to normalised images."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnbench.backbones.backbone import Preprocessing
from attnbench.backbones.imagenet_names import wnids_of
from attnbench.errors import AttnbenchError
from attnbench.stimuli.class_labels import ClassLabels, find_class
from attnbench.stimuli.datasets import Dataset
from attnbench.stimuli.duplicates import content_of
from attnbench.stimuli.embedded import Figures
from attnbench.stimuli.filtration import filter_pictures
from attnbench.stimuli.generators import blend, noise
from attnbench.stimuli.preprocessing import Images, Picture, in_unit_range, normalise
from attnbench.stimuli.selection import CHUNK, Indices, Role, Selection, choose_partners, draw
from attnbench.stimuli.sources import PreparedPictures, open_source, prepare
from attnbench.tasks import Blend, Filtration, FolderSource, HubSource, Noise, Sample


class ImageSet:
    """The images that a track's episodes adapt on, or those that they test on.

    Args:
        role: whether the images are for adaptation or for testing.
        sample: the definition in the task.
        labels: the task's `labels`, which say what classes are called by backbones.
        preprocessing: the backbone's.
        data: the data folder, or None to load from the hub.

    Attributes:
        name: the source's name.
        classes: the names of the source's classes.
        class_labels: how the classes are found among the labels of a network.
        is_own: whether the pictures are in a folder of one's own.

    Raises:
        AttnbenchError: if the source's data is missing or damaged.
    """

    def __init__(
        self,
        role: Role,
        sample: Sample,
        labels: Mapping[str, str | int],
        preprocessing: Preprocessing,
        data: Path | None,
    ) -> None:
        self._role = role
        self._sample = sample
        self._preprocessing = preprocessing
        self._data = data
        self._source = open_source(sample.source, data, role.name.lower())
        self._contents: dict[int, bytes] = {}
        self.name = self._source.name
        self.classes = self._source.classes
        self.is_own = isinstance(sample.source, FolderSource)
        # A name means a class of ImageNet only if all names of the data set do: the mouse of CIFAR-100
        # is an animal, that of ImageNet is not.
        is_imagenet = isinstance(sample.source, HubSource) and all(map(wnids_of, self.classes))
        self.class_labels = ClassLabels(labels, synonyms=is_imagenet)

    @cached_property
    def pictures(self) -> PreparedPictures:
        """All pictures that can be selected. Computed when first used, as filtration takes minutes."""
        generator = self._sample.generator
        if isinstance(generator, Filtration):
            return filter_pictures(
                self._source, generator, self._preprocessing, self.class_labels, self._data
            )
        return prepare(self._source, self._preprocessing)

    @property
    def dataset(self) -> Dataset | None:
        """The source if its pictures are files, and None if they are drawn or embedded."""
        return self._source if isinstance(self._source, Dataset) else None

    def class_index(self, target: str, what: str = "target") -> int:
        """Return the index of a target among the classes. Raises AttnbenchError if it is not one."""
        synonyms = self.class_labels.synonyms
        return find_class(target, self.classes, self.name, synonyms=synonyms, what=what)

    def select(self, target: str, targets: Sequence[str], seed: int) -> Selection:
        """Select the pictures of an episode, without replacement and reproducibly.

        Different seeds share no picture as long as there are enough; see `selection.draw`. Blending
        partners are drawn for each seed on its own, and may be shared.

        Args:
            target: the class to detect.
            targets: all targets of the track, from which negatives may be limited.
            seed: the episode's seed.

        Raises:
            AttnbenchError: if there are too few pictures. The message says how many there are.
        """
        label = self.class_index(target)
        labels = self.pictures.labels
        candidates = self._candidates(label, targets)
        pos = self._draw("positives", target, label, candidates[0], seed)
        neg = self._draw("negatives", f"no {target}", label, candidates[1], seed)
        pictures = np.concatenate([pos, neg])
        if not isinstance(self._sample.generator, Blend):
            return Selection(len(pos), pictures, None)
        repeats = self._sample.generator.partners
        pictures = np.repeat(pictures, repeats)
        rng = np.random.default_rng([seed, label, self._role])
        partners = choose_partners(rng, labels, pictures, candidates[1])
        return Selection(len(pos) * repeats, pictures, partners)

    def shares_images(self, target: str, targets: Sequence[str], seeds: Iterable[int]) -> bool:
        """Return whether episodes of different seeds have a positive or a negative in common.

        They have if the data has too few pictures for so many seeds. Blending partners do not count.

        Args:
            target, targets: as for `select`.
            seeds: the seeds of the episodes.

        Raises:
            AttnbenchError: as `select`.
        """
        seen: set[int] = set()
        for seed in {*seeds}:
            pictures = set(self.select(target, targets, seed).pictures.tolist())
            if not seen.isdisjoint(pictures):
                return True
            seen |= pictures
        return False

    def _candidates(self, label: int, targets: Sequence[str]) -> tuple[Indices, Indices]:
        """Return the pictures that may be positives, and those that may be negatives or partners."""
        labels = self.pictures.labels
        is_negative = labels != label
        if self._sample.negatives_from == "targets":
            is_negative &= np.isin(labels, [self.class_index(name) for name in targets])
        return np.flatnonzero(labels == label), np.flatnonzero(is_negative)

    def _draw(self, key: str, content: str, label: int, candidates: Indices, seed: int) -> Indices:
        wanted = getattr(self._sample, key)
        count = len(candidates) if wanted == "all" else int(wanted)
        if len(candidates) < max(count, 1):
            side = self._role.name.lower()
            raise AttnbenchError(
                f"{self.name} has {len(candidates)} pictures of {content} to {side} on, but the task "
                f"needs {max(count, 1)} ({side}.{key})"
            )
        return draw(candidates, count, [label, self._role], seed)

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

    def pictures_of(self, image_name: str) -> tuple[Picture, ...]:
        """Return the pictures that an image was made from, as they are in the data.

        Args:
            image_name: one of `image_names`.

        Returns:
            uint8 RGB `[3, h, w]` each: one picture, or both pictures of a blend.

        Raises:
            AttnbenchError: if there is no such picture, or it is damaged.
        """
        name = re.sub(r" \(sigma [^()]*\)$", "", image_name)
        # A file name may contain " + " itself.
        halves = [
            (name[: match.start()], name[match.end() :]) for match in re.finditer(r" \+ ", name)
        ]
        index_of = self.pictures.index_by_name
        for parts in [(image_name,), (name,), *halves]:
            if all(part in index_of for part in parts):
                rows = self.pictures.rows[[index_of[part] for part in parts]]
                return tuple(self._source.load(rows.tolist()))
        raise AttnbenchError(
            f"{self.name} has no picture {image_name!r}; the data may have changed"
        )

    def masks(self, indices: Indices) -> NDArray[np.float32] | None:
        """Return where the object is in pictures, float32 `[n, h, w]` from 0 to 1.

        None if the source does not know, or if pictures are blended.
        """
        if not isinstance(self._source, Figures) or isinstance(self._sample.generator, Blend):
            return None
        return self._source.masks(self.pictures.rows[indices].tolist())

    def location(self, index: int) -> str:
        """Return where a picture is, as messages name it."""
        return self.pictures.location(index)

    def contents(self, selection: Selection) -> dict[bytes, int]:
        """Return a picture for each content among the selected pictures and partners.

        Pictures have the same content if their pixels are equal once they are prepared. Each picture
        is loaded only once, however often it is selected.

        Raises:
            AttnbenchError: if a picture is damaged.
        """
        indices = np.unique(selection.all_pictures)
        missing = np.array([i for i in indices.tolist() if i not in self._contents], dtype=np.int64)
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            digests = map(content_of, self.pictures.load(chunk))
            self._contents |= zip(chunk.tolist(), digests, strict=True)
        return {self._contents[index]: index for index in indices.tolist()}

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
