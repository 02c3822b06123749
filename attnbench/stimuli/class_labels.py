"""Which output of a network a class is, and which class a target is."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from attnbench.backbones.imagenet_names import describe, names_by_wnid, wnids_of
from attnbench.errors import AttnbenchError

_MAX_LISTED = 10


@dataclass(frozen=True)
class ClassLabels:
    """How the classes of a data set are found among the labels of a network.

    Attributes:
        given: the task's `labels`: for some classes, the label's text, a synonym, a WordNet id, or
            its index.
        synonyms: whether ImageNet's names and WordNet ids count as the same class without being
            told so. They do for public data sets. A class of one's own pictures that happens to have
            such a name may be something else, so `labels` has to say what it is.
    """

    given: Mapping[str, str | int] = field(default_factory=dict)
    synonyms: bool = False

    def index(self, name: str, labels: Sequence[str] | None) -> int | None:
        """Return a class's index among a network's labels, or None if it has none.

        Args:
            name: the class.
            labels: the network's labels, or None if it has no labels.

        Raises:
            AttnbenchError: if the task gives a label that the network does not have, or the class
                can be several of its labels.
        """
        if labels is None:
            return None
        if name in self.given:
            return resolve(name, self.given[name], labels)
        if name in labels:
            return labels.index(name)
        if not self.synonyms:
            return None
        return _only(name, similar_labels(name, labels), labels)


def similar_labels(name: str, labels: Sequence[str]) -> list[int]:
    """Return the indices of all labels that a name can stand for by ImageNet's names.

    Args:
        name: a name, a synonym or a WordNet id.
        labels: names or WordNet ids.
    """
    if name in labels:
        return [labels.index(name)]
    wnids = set(wnids_of(name))
    return [
        index
        for index, label in enumerate(labels)
        if wnids and not wnids.isdisjoint(wnids_of(label))
    ]


def resolve(name: str, label: str | int, labels: Sequence[str]) -> int:
    """Return the index of the label that a task gives for a class.

    Args:
        name: the class.
        label: the label's text, a synonym, a WordNet id, or its index.
        labels: the network's labels.

    Raises:
        AttnbenchError: if there is no such label, or if there are several.
    """
    if isinstance(label, int):
        if not 0 <= label < len(labels):
            raise AttnbenchError(
                f"labels: {name!r} is {label} in the task, but the backbone's labels are numbered 0 "
                f"to {len(labels) - 1}"
            )
        return label
    index = _only(name, similar_labels(label, labels), labels)
    if index is None:
        near = near_labels(label, labels)
        raise AttnbenchError(
            f"labels: {name!r} is {label!r} in the task, but the backbone has no such label; "
            + (f"similar labels are {', '.join(near)}" if near else _list(labels))
        )
    return index


def near_labels(text: str, labels: Sequence[str]) -> list[str]:
    """Return a few labels whose text or names resemble a text, described for people."""
    names_of = names_by_wnid()
    by_name: dict[str, str] = {}
    for label in labels:
        for name in (label, *names_of.get(label, ())):
            by_name.setdefault(name.casefold(), label)
    words = text.casefold().replace("_", " ")
    close = get_close_matches(words, by_name, n=5, cutoff=0.6)
    close += [name for name in by_name if words in name.split()]
    return [_describe(label) for label in dict.fromkeys(by_name[name] for name in close)][:5]


def find_class(
    name: str, classes: Sequence[str], source: str, *, synonyms: bool, what: str = "target"
) -> int:
    """Return the index of a target among the classes of a data set.

    Args:
        name: the target.
        classes: the data set's classes.
        source: the data set's name, for the error message.
        synonyms: as in `ClassLabels`.
        what: what the name is, for the error message.

    Raises:
        AttnbenchError: if it is not one of the classes, or can be several.
    """
    # An editor and a file system may store accents in different ways.
    for spelling in (name, unicodedata.normalize("NFC", name)):
        if spelling in classes:
            return classes.index(spelling)
    index = _only(name, similar_labels(name, classes), classes) if synonyms else None
    if index is None:
        near = get_close_matches(name, classes, n=3)
        raise AttnbenchError(
            f"{what} {name!r} is not a class of {source}; "
            + (f"similar classes are {', '.join(near)}; " if near else "")
            + f"its classes are {', '.join(classes)}"[:1000]
        )
    return index


def _only(name: str, indices: Sequence[int], labels: Sequence[str]) -> int | None:
    """Return the only index, or None if there is none."""
    if len(indices) > 1:
        meanings = " or ".join(_describe(labels[index]) for index in indices)
        raise AttnbenchError(
            f"{name!r} can mean {meanings}; say which in the task, as "
            f'labels = {{ "{name}" = "{labels[indices[0]]}" }}'
        )
    return indices[0] if indices else None


def _describe(label: str) -> str:
    return describe(label) if label in names_by_wnid() else label


def _list(labels: Sequence[str]) -> str:
    return f"its labels are {', '.join(labels[:_MAX_LISTED])}{', …' * (len(labels) > _MAX_LISTED)}"
