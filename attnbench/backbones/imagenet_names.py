"""What ImageNet's classes are called: names, synonyms and WordNet ids stand for the same class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from attnbench.backbones.imagenet import WNIDS
from attnbench.errors import AttnbenchError


@cache
def names_by_wnid() -> dict[str, tuple[str, ...]]:
    """Return the names of each of the 1,000 classes, the usual one first, in ImageNet's order."""
    text = Path(__file__).with_name("imagenet_names.txt").read_text(encoding="ascii")
    lines = [line.split(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {wnid: tuple(names.split(", ")) for wnid, names in lines}


@cache
def _wnids_by_name(usual: bool) -> dict[str, tuple[str, ...]]:
    """Return the classes of each name; of usual names only, or of all names."""
    wnids = defaultdict(list)
    for wnid, names in names_by_wnid().items():
        for name in {_simplified(name) for name in (names[:1] if usual else names)}:
            wnids[name].append(wnid)
    return {name: tuple(classes) for name, classes in wnids.items()}


def _simplified(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def wnids_of(name: str) -> tuple[str, ...]:
    """Return the ImageNet classes that a name can mean: none, one, or several.

    Case and underscores do not matter. "harp" is the usual name of one class and another name of
    the harmonica; it means the former. "crane" is the usual name of two classes.

    Args:
        name: a WordNet id, a name, or several names of a class separated by commas.
    """
    if name in names_by_wnid():
        return (name,)
    parts = [_simplified(part) for part in name.split(",")]
    usual = _wnids_by_name(usual=True).get(_simplified(name), ())
    if usual:
        return usual
    candidates = [set(_wnids_by_name(usual=False).get(part, ())) for part in parts]
    return tuple(sorted(set.intersection(*candidates)))


def describe(wnid: str) -> str:
    """Return a WordNet id with the names of its class, for people."""
    return f"{wnid} ({', '.join(names_by_wnid()[wnid])})"


def as_wnids(classes: Sequence[str], source: str) -> tuple[str, ...]:
    """Return the WordNet ids of a data set's 1,000 classes, if these are ImageNet's.

    Classes that are listed in ImageNet's order, as the hub lists them, may have ambiguous names.
    Sorted names, as of folders, must each mean one class.

    Args:
        classes: the names of the classes, in the order of the labels.
        source: the name of the data set, for the error message.

    Returns:
        `classes` itself if they are other classes, or already WordNet ids.

    Raises:
        AttnbenchError: if the classes may be ImageNet's but it is not certain which is which.
    """
    if len(classes) != len(WNIDS) or set(classes) == set(WNIDS):
        return tuple(classes)
    remedy = "name its folders or labels by WordNet ids (n01440764, …)"
    if {*classes} == {str(number) for number in range(len(WNIDS))}:
        raise AttnbenchError(
            f"the 1,000 classes of {source} are called 0 to 999, which does not say which class of "
            f"ImageNet is which; {remedy}"
        )
    meanings = [wnids_of(name) for name in classes]
    in_order = sum(wnid in wnids for wnid, wnids in zip(WNIDS, meanings, strict=True))
    named = sum(map(bool, meanings))
    if named < len(WNIDS) / 2:
        return tuple(classes)
    # A few names may be the data set's own, such as "crane2" for the second of two cranes.
    if in_order == named and named > 0.95 * len(WNIDS):
        return WNIDS
    counts = Counter(wnids[0] for wnids in meanings if len(wnids) == 1)
    is_certain = [len(wnids) == 1 and counts[wnids[0]] == 1 for wnids in meanings]
    if all(is_certain):
        return tuple(wnids[0] for wnids in meanings)
    unclear = [repr(name) for name, certain in zip(classes, is_certain, strict=True) if not certain]
    raise AttnbenchError(
        f"the 1,000 classes of {source} have names of ImageNet's classes, but it is not certain which "
        f"class is meant by {', '.join(unclear[:5])}{', …' * (len(unclear) > 5)}; {remedy}"
    )
