"""`attnbench new-task`: a task file for a folder of one's own pictures."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnbench.backbone_names import with_file
from attnbench.backbones import load
from attnbench.commands.task_template import TRACK, Sizes, task_text
from attnbench.errors import AttnbenchError
from attnbench.stimuli.class_labels import find_class
from attnbench.stimuli.datasets import Dataset
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.stimuli.opening import find_splits, open_folder
from attnbench.stimuli.splits import standard_name
from attnbench.task_schema import PLAIN_NAME, Division, FolderSource
from attnbench.tasks import parse_task

# Small, shipped with its weights, and without labels: it runs anywhere, on any pictures.
DEFAULT_BACKBONE = "shipped/cifar-simclr"
# More pictures than this make episodes slower, and intervals hardly narrower.
_MAX_TO_ADAPT, _MAX_TEST_POSITIVES, _MAX_TEST_NEGATIVES = 50, 100, 400
# With fewer pictures of a target than this, a task runs but tells little.
_FEW_TO_ADAPT, _FEW_TO_TEST = 10, 20
# The least of any kind, and a share of the median class: a smaller class would make all episodes small.
_MIN_PICTURES, _MIN_SHARE = 2, 0.25

Counts = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class NewTask:
    """A task file that was written.

    Attributes:
        path: the file.
        counts: for each class, the numbers of pictures to adapt on and to test on.
        targets: the classes to detect.
        notes: what was left out of the data, and what is too little of it, as sentences.
    """

    path: Path
    counts: Counts
    targets: tuple[str, ...]
    notes: tuple[str, ...]


def new_task(
    name: str,
    images: Path,
    *,
    targets: Sequence[str] = (),
    backbone: str = DEFAULT_BACKBONE,
    skip_damaged: bool = False,
    parent: Path = Path("."),
) -> NewTask:
    """Write `parent`/`name`.toml, a task that detects classes of a folder of pictures.

    Every picture that its episodes with seed 0 need is read first, so the task runs as it is.

    Args:
        name: the task's name: lower-case letters, digits and hyphens.
        images: the folder, or a CSV of files and labels; see `attnbench.task_schema.FolderSource`.
        targets: the classes to detect. By default all classes that have enough pictures.
        backbone: the backbone to adapt, as `attnbench.backbones.load` takes it.
        skip_damaged: whether pictures that cannot be read are left out.
        parent: the folder for the task file; created if needed.

    Raises:
        AttnbenchError: if the name is not valid or taken, the pictures are missing, too few or
            damaged, or an episode would adapt on a picture that it tests on. No file is written then.
    """
    if not re.fullmatch(PLAIN_NAME, name):
        raise AttnbenchError(
            f"{name!r} is not a valid name for a task: use up to 64 lower-case letters, digits and "
            "hyphens, starting with a letter or digit"
        )
    path = parent / f"{name}.toml"
    if path.exists():
        raise AttnbenchError(f"{path} exists already; choose another name, or remove it")
    network = load(backbone, untrained=True)
    folder = FolderSource(
        kind="folder", path=str(images), skip_damaged=skip_damaged, base=Path.cwd()
    )
    sources = _divide(folder)
    opened = open_folder(sources[0], "adapt"), open_folder(sources[1], "test")
    counts = _count(*opened)
    try:
        chosen = _choose_targets(counts, targets, images)
        sizes = _choose_sizes(counts, chosen, images)
    except AttnbenchError as problem:
        # Pictures may be too few because others were left out.
        left_out = dict.fromkeys(note for dataset in opened for note in dataset.notes)
        raise AttnbenchError("; ".join([str(problem), *left_out])) from None
    text = task_text(
        name,
        # Relative, so that the file can be moved together with its pictures.
        path=_relative(images, parent),
        sources=sources,
        sizes=sizes,
        targets=chosen,
        backbone=with_file(backbone, lambda file: _relative(file, parent)),
        classes=tuple(counts),
        labels=network.labels,
    )
    try:
        # First, as the paths in the file lead out of this folder with "..".
        parent.mkdir(parents=True, exist_ok=True)
        track = parse_task(text, path).tracks[TRACK]
        stimuli = TrackStimuli(track, network.preprocessing, network.labels, None)
        stimuli.check([0])
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AttnbenchError(f"{path} cannot be written: {error.strerror}") from None
    notes = (*stimuli.notes, *_too_few(counts, chosen, sizes))
    return NewTask(path, counts, chosen, notes)


def _divide(folder: FolderSource) -> tuple[FolderSource, FolderSource]:
    """Return the sources to adapt on and to test on: the folder's own splits, or its division."""
    splits = {standard_name(split): split for split in find_splits(folder)}
    if len(splits) == 1:
        division = Division(adapt=0.5, test=0.5, seed=0)
        divided = folder.model_copy(update={"split": division})
        return divided, divided
    test = splits.get("test", splits.get("validation"))
    adapt = splits.get("train", splits.get("validation"))
    if test is None or adapt is None or adapt == test:
        raise AttnbenchError(
            f"cannot tell on which splits of {folder.path} to adapt and to test "
            f"({', '.join(splits.values())}); call them train and test"
        )
    return (
        folder.model_copy(update={"split": adapt}),
        folder.model_copy(update={"split": test}),
    )


def _count(adapt: Dataset, test: Dataset) -> Counts:
    """Return the numbers of pictures of each class to adapt on and to test on."""
    to_adapt, to_test = (
        dict(zip(data.classes, np.bincount(data.labels, minlength=len(data.classes)), strict=True))
        for data in (adapt, test)
    )
    return {
        name: (int(to_adapt.get(name, 0)), int(to_test.get(name, 0)))
        for name in sorted(to_adapt.keys() | to_test.keys())
    }


def _choose_targets(counts: Counts, wanted: Sequence[str], images: Path) -> tuple[str, ...]:
    """Return the targets: those that are wanted, or else all classes with enough pictures."""
    if len(counts) < 2:
        raise AttnbenchError(
            f"{images} has only the class {next(iter(counts))!r}; add a folder of pictures that do "
            "not show it"
        )
    if wanted:
        classes = list(counts)
        indices = [find_class(name, classes, str(images), synonyms=False) for name in wanted]
        targets = tuple(dict.fromkeys(classes[index] for index in indices))
        least = _MIN_PICTURES
    else:
        targets = tuple(counts)
        least = max(_MIN_PICTURES, int(_MIN_SHARE * np.median([min(n) for n in counts.values()])))
    enough = tuple(name for name in targets if min(counts[name]) >= least)
    lacking = [name for name in targets if name not in enough]
    if not enough or (wanted and lacking):
        found = ", ".join(f"{name} has {counts[name][0]} and {counts[name][1]}" for name in lacking)
        raise AttnbenchError(
            f"{images} has too few pictures: a target needs {_MIN_PICTURES} to adapt on and "
            f"{_MIN_PICTURES} to test on; {found}"[:2000]
        )
    return enough


def _choose_sizes(counts: Counts, targets: Sequence[str], images: Path) -> Sizes:
    """Return the largest useful numbers of pictures that every target has.

    Raises:
        AttnbenchError: if there are too few pictures without a target.
    """
    totals = [sum(part) for part in zip(*counts.values(), strict=True)]
    # The fewest that any target leaves: positives and negatives, to adapt on and to test on.
    positives = [min(counts[name][part] for name in targets) for part in (0, 1)]
    negatives = [totals[part] - max(counts[name][part] for name in targets) for part in (0, 1)]
    if min(negatives) < _MIN_PICTURES:
        raise AttnbenchError(
            f"{images} has too few pictures that do not show a target: {negatives[0]} to adapt on and "
            f"{negatives[1]} to test on, but {_MIN_PICTURES} of each are needed"
        )
    to_adapt = min(_MAX_TO_ADAPT, positives[0], negatives[0])
    return Sizes(
        adapt_positives=to_adapt,
        adapt_negatives=to_adapt,
        test_positives=min(_MAX_TEST_POSITIVES, positives[1]),
        test_negatives=min(_MAX_TEST_NEGATIVES, negatives[1]),
    )


def _too_few(counts: Counts, targets: Sequence[str], sizes: Sizes) -> list[str]:
    """Return what is too little, as sentences."""
    notes = []
    if others := [
        name for name in counts if name not in targets and min(counts[name]) < _MIN_PICTURES
    ]:
        notes.append(f"too few pictures to be a target: {', '.join(others)}")
    spellings = defaultdict(list)
    for name in counts:
        spellings[name.casefold()].append(name)
    if alike := [" and ".join(names) for names in spellings.values() if len(names) > 1]:
        notes.append(
            f"these are different classes, as upper and lower case count: {'; '.join(alike)}"
        )
    if sizes.adapt_positives < _FEW_TO_ADAPT:
        notes.append(
            f"{sizes.adapt_positives} positives to adapt on are few; {_FEW_TO_ADAPT} or more would "
            "tell methods apart better"
        )
    if sizes.test_positives < _FEW_TO_TEST:
        notes.append(
            f"{sizes.test_positives} positives to test on are few: d′ will have a wide interval; "
            f"use {_FEW_TO_TEST} or more"
        )
    return notes


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.expanduser(), folder)).as_posix()
