"""The text of a task file for a folder of pictures, with comments for whoever edits it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from attnbench.backbones.imagenet import WNIDS
from attnbench.backbones.imagenet_names import names_by_wnid
from attnbench.stimuli.class_labels import similar_labels
from attnbench.task_schema import Division, FolderSource

TRACK = "own"
_TIMEOUT_SECONDS = 300
_MAX_PROPOSALS = 3


@dataclass(frozen=True)
class Sizes:
    """The numbers of pictures in an episode."""

    adapt_positives: int
    adapt_negatives: int
    test_positives: int
    test_negatives: int


def task_text(
    name: str,
    *,
    path: str,
    sources: tuple[FolderSource, FolderSource],
    sizes: Sizes,
    targets: Sequence[str],
    backbone: str,
    classes: Sequence[str],
    labels: Sequence[str] | None,
) -> str:
    """Return the TOML of a task with one track, called `own`.

    Labels that classes may have are proposed in comments. None takes effect before a person agrees.

    Args:
        name: the task's name.
        path: the folder of pictures, relative to the task file.
        sources: the sources to adapt on and to test on.
        sizes: the numbers of pictures.
        targets: the classes to detect.
        backbone: the default backbone.
        classes: all classes of the folder.
        labels: the backbone's labels. None if it has none; ImageNet's are proposed then.
    """
    adapt, test = (_source(source, path) for source in sources)
    return f"""\
name = {_quote(name)}
version = 1 # raise it when a change makes scores incomparable with earlier ones
title = {_quote(name)}
reference = "own pictures"
description = "Is the target in this picture?"

[tracks.{TRACK}]
backbones = [{_quote(backbone)}] # or torchvision/NAME, timm/NAME, or a backbone.toml of your own
targets = [{", ".join(map(_quote, targets))}]
timeout = {_TIMEOUT_SECONDS} # seconds per adaptation

[tracks.{TRACK}.adapt]
source = {adapt}
positives = {sizes.adapt_positives}
negatives = {sizes.adapt_negatives}

[tracks.{TRACK}.test]
source = {test}
positives = {sizes.test_positives}
negatives = {sizes.test_negatives}
""" + "".join(f"{line}\n" for line in _proposals(classes, labels))


def _source(source: FolderSource, path: str) -> str:
    split = source.split
    parts = ['kind = "folder"', f"path = {_quote(path)}"]
    if isinstance(split, Division):
        division = f"adapt = {split.adapt:g}, test = {split.test:g}, seed = {split.seed}"
        parts.append(f"split = {{ {division} }}")
    elif split is not None:
        parts.append(f"split = {_quote(split)}")
    if source.skip_damaged:
        parts.append("skip_damaged = true")
    return f"{{ {', '.join(parts)} }}"


def _quote(text: str) -> str:
    # JSON's strings are TOML's, except that TOML also wants DEL escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _proposals(classes: Sequence[str], labels: Sequence[str] | None) -> Iterator[str]:
    """Yield comments that propose a label for each class that the backbone may know.

    A class that is called exactly like a label needs none.
    """
    known = WNIDS if labels is None else labels
    proposals = [
        (name, known[index])
        for name in classes
        if labels is None or name not in labels
        for index in similar_labels(name, known)[:_MAX_PROPOSALS]
    ]
    if not proposals:
        return
    yield ""
    whose = "the backbone" if labels is not None else "a backbone trained on ImageNet"
    yield f"# What {whose} calls these classes."
    yield "# Methods that start from the backbone's own class need it. The labels below have"
    yield "# similar names. Remove the # of [tracks.own.labels] and of those that mean the same."
    yield f"# [tracks.{TRACK}.labels]"
    for name, label in proposals:
        comment = f" # {', '.join(names_by_wnid()[label])}" if label in names_by_wnid() else ""
        yield f"# {_quote(name)} = {_quote(label)}{comment}"
