"""Episodes: the images to adapt on and to test on, drawn from a track's sources by seed."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnbench.backbones.backbone import Preprocessing
from attnbench.backbones.imagenet import IMAGENET_A_WNIDS
from attnbench.errors import AttnbenchError
from attnbench.stimuli.adaptation_images import AdaptationSource
from attnbench.stimuli.duplicates import contents_of, describe_duplicates
from attnbench.stimuli.episode import Episode
from attnbench.stimuli.image_sets import ImageSet
from attnbench.stimuli.preprocessing import Picture
from attnbench.stimuli.selection import Role, Selection
from attnbench.tasks import Track

_MAX_PROBLEMS = 10


class TrackStimuli:
    """The episodes of a track, prepared for one backbone.

    Args:
        track: the track's definition.
        preprocessing: the backbone's.
        labels: the backbone's labels, or None if it has none.
        data: the data folder, or None to load from the hub.
        adaptation: the source of the images to adapt on, if another track shares it.

    Attributes:
        targets: the names of the track's targets.
        adaptation: the source of the images to adapt on.

    Raises:
        AttnbenchError: if data is missing or damaged, or a target is not a class of its source.
    """

    def __init__(
        self,
        track: Track,
        preprocessing: Preprocessing,
        labels: tuple[str, ...] | None,
        data: Path | None,
        adaptation: AdaptationSource | None = None,
    ) -> None:
        self._labels = labels
        self.adaptation = adaptation or AdaptationSource(
            ImageSet(Role.ADAPT, track.adapt, track.labels, preprocessing, data),
            (3, preprocessing.size, preprocessing.size),
        )
        self._adapt = self.adaptation.images
        self._test = ImageSet(Role.TEST, track.test, track.labels, preprocessing, data)
        self._with_logits = track.logits
        named_targets = {"all": self._test.classes, "imagenet-a": IMAGENET_A_WNIDS}
        self.targets = (
            named_targets[track.targets] if isinstance(track.targets, str) else track.targets
        )
        for target in self.targets:
            for image_set in (self._adapt, self._test):
                image_set.class_index(target)
        for name in track.labels:
            self._test.class_index(name, what="labels: ")
            self._label_of(name)

    @cached_property
    def notes(self) -> list[str]:
        """Sentences for people: what was left out of the data, and which pictures it has twice."""
        sets = (self._adapt.dataset, self._test.dataset)
        sources = [source for source in sets if source is not None]
        notes = [note for source in sources for note in source.notes]
        return list(filter(None, dict.fromkeys([*notes, describe_duplicates(sources)])))

    def note_on_seeds(self, seeds: Sequence[int]) -> str:
        """Return a sentence if episodes of different seeds adapt on the same images, else nothing."""
        # For a single seed, nothing needs to be drawn.
        if len(seeds) > 1 and any(
            self._adapt.shares_images(each, self.targets, seeds) for each in self.targets
        ):
            return f"{self._adapt.name} has too few pictures: seeds share images to adapt on"
        return ""

    def check(self, seeds: Iterable[int]) -> None:
        """Check everything that the episodes of these seeds need, before the first of them.

        All selected pictures of one's own are read. Those of public data sets, which may be a
        million, are read by `episode`.

        Raises:
            AttnbenchError: if a target has too few pictures, which the message lists for all targets;
                if a picture of one's own cannot be read; or if an episode would adapt on one that it
                tests on.
        """
        # Filtration may fail, and should do so only once.
        _ = self._adapt.pictures, self._test.pictures
        problems = []
        for target in self.targets:
            try:
                # How many pictures there are does not depend on the seed.
                self._select(target, 0)
            except AttnbenchError as problem:
                problems.append(str(problem))
        if problems:
            more = [f"… ({len(problems)} problems in all)"] * (len(problems) > _MAX_PROBLEMS)
            raise AttnbenchError("; ".join([*problems[:_MAX_PROBLEMS], *more, *self.notes]))
        if not self.is_own:
            return
        for target, seed in itertools.product(self.targets, seeds):
            adapt, test = self._select(target, seed)
            self._refuse_overlap(
                target, seed, self._adapt.contents(adapt), self._test.contents(test)
            )

    def episode(self, target: str, seed: int) -> Episode:
        """Return the episode of this target and seed, with the same images every time.

        Raises:
            AttnbenchError: if there are too few pictures, one of them is damaged, or the episode
                would adapt on a picture that it tests on.
        """
        test = self._test.select(target, self.targets, seed)
        adapted = self.adaptation.draw(target, self.targets, seed)
        digest = adapted.digest.copy()
        tested: dict[bytes, int] = {}
        # Test pictures are loaded for the fingerprint now, and again when their images are built:
        # all images of a test set at once may not fit into memory.
        for chunk in test.chunks():
            part = test.subset(chunk)
            pictures = self._test.load_pictures(part)
            digest.update(pictures.tobytes())
            tested |= contents_of(pictures, part.all_pictures)
        self._refuse_overlap(target, seed, adapted.contents, tested)
        rivals: list[int] = []
        if self._with_logits:
            indices = map(self._label_of, self.targets)
            rivals = [index for index in indices if index is not None]
        return Episode(
            target=target,
            seed=seed,
            label=self._label_of(target),
            rivals=tuple(rivals),
            pos=adapted.pos,
            neg=adapted.neg,
            present=np.arange(len(test.pictures)) < test.positive_count,
            image_ids=self._test.image_names(test),
            fingerprint=digest.hexdigest(),
            make=lambda order, out=None: self._test.build_images(test.subset(order), seed, out),
        )

    @property
    def is_own(self) -> bool:
        """Whether pictures are in a folder of one's own, where anybody may change them."""
        return self._adapt.is_own or self._test.is_own

    def fingerprint(self, target: str, seed: int) -> str:
        """Return the fingerprint of an episode without building it; see `Episode.fingerprint`.

        Raises:
            AttnbenchError: if there are too few pictures, or one of them is damaged.
        """
        digest = hashlib.sha256()
        selections = self._select(target, seed)
        for image_set, selection in zip((self._adapt, self._test), selections, strict=True):
            for chunk in selection.chunks():
                digest.update(image_set.load_pictures(selection.subset(chunk)).tobytes())
        return digest.hexdigest()

    def masks_of_positives(self, target: str, seed: int) -> NDArray[np.float32] | None:
        """Return where the object is in the positive test pictures, float32 `[n, h, w]` from 0 to 1.

        None if the data does not say.
        """
        selection = self._test.select(target, self.targets, seed)
        return self._test.masks(selection.pictures[: selection.positive_count])

    def labels_of_test(self, target: str, seed: int) -> NDArray[np.int64]:
        """Return which of the backbone's labels each test image shows, int64 `[n]`.

        -1 where it is none of them, or where two pictures are blended.
        """
        selection = self._test.select(target, self.targets, seed)
        if selection.partners is not None:
            return np.full(len(selection.pictures), -1)
        indices = map(self._label_of, self._test.classes)
        of_classes = np.array([-1 if index is None else index for index in indices])
        return of_classes[self._test.pictures.labels[selection.pictures]]

    def adaptation_positives(self, target: str) -> int:
        """Return how many positives there are to adapt on. Raises AttnbenchError if too few."""
        return self._adapt.select(target, self.targets, 0).positive_count

    def test_pictures(self, image_id: str) -> tuple[Picture, ...]:
        """Return the pictures that a test image was made from, as they are in the data.

        Args:
            image_id: one of an episode's `image_ids`.

        Returns:
            uint8 RGB `[3, h, w]` each: one picture, or both pictures of a blend.

        Raises:
            AttnbenchError: if there is no such picture, or it is damaged.
        """
        return self._test.pictures_of(image_id)

    def _select(self, target: str, seed: int) -> tuple[Selection, Selection]:
        """Return the pictures to adapt on and those to test on. Raises AttnbenchError."""
        return (
            self._adapt.select(target, self.targets, seed),
            self._test.select(target, self.targets, seed),
        )

    def _label_of(self, target: str) -> int | None:
        """Return a target's index in the backbone's labels, or None if it is new to the backbone."""
        return self._adapt.class_labels.index(target, self._labels)

    def _refuse_overlap(
        self, target: str, seed: int, adapted: dict[bytes, int], tested: dict[bytes, int]
    ) -> None:
        """Raise AttnbenchError if a picture to adapt on has the content of one to test on.

        Args:
            target, seed: of the episode.
            adapted: an index in the adaptation set for each content, with blending partners.
            tested: the same of the test set.
        """
        common = [content for content in tested if content in adapted]
        if not common:
            return
        first = self._adapt.location(adapted[common[0]])
        second = self._test.location(tested[common[0]])
        pair, remedy = f"{first} and {second} are the same picture", "Remove one of each pair"
        if first == second:
            pair, remedy = (
                first,
                (
                    "Let `adapt` and `test` draw from different splits; for a folder without splits, "
                    "write split = { adapt = 0.5, test = 0.5, seed = 0 } in both"
                ),
            )
        raise AttnbenchError(
            f"the episode of {target!r} with seed {seed} would adapt on {len(common)} of the "
            f"{len(tested)} pictures that it tests on: {pair}. {remedy}. "
            f"{'; '.join(self.notes)}".rstrip(". ")
        )
