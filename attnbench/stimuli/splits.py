"""Splits of a data set: what they are called, slices of them, and the division of a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from attnbench.errors import AttnbenchError

# The names by which `datasets` recognises the splits of a folder.
_STANDARD_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


def standard_name(name: str) -> str:
    """Return `train`, `validation` or `test` for any usual name of these, or else `name` itself."""
    return _STANDARD_NAMES.get(name.lower(), name)


def is_split_name(name: str) -> bool:
    """Return whether a folder of this name usually holds a split."""
    return name.lower() in _STANDARD_NAMES


def parse(split: str) -> list[tuple[str, str]]:
    """Return the parts of a split in the notation of `datasets`, such as `train[:50%]+test`.

    Returns:
        The name and the slice of each part, `("train", "[:50%]")` and `("test", "")` in the example.
    """
    parts = []
    for part in split.split("+"):
        name, bracket, slice_ = part.strip().partition("[")
        parts.append((name.strip(), bracket + slice_))
    return parts


def find(name: str, splits: Iterable[str], folder: object, hint: str = "") -> str:
    """Return the split that a name means: the one so called, or the only one of the same kind.

    `val`, `valid`, `dev` and `validation` are of the same kind.

    Args:
        name: the name in a task.
        splits: the splits of the data set.
        folder: where they are, for the error message.
        hint: what the error message adds if there is no such split.

    Raises:
        AttnbenchError: if there is no such split, or several. The message lists the splits.
    """
    splits = list(splits)
    if name in splits:
        return name
    same_kind = [split for split in splits if standard_name(split) == standard_name(name)]
    if len(same_kind) == 1:
        return same_kind[0]
    if same_kind:
        raise AttnbenchError(
            f"{folder} has several splits that {name!r} can mean: {', '.join(same_kind)}; "
            "name one of them"
        )
    raise AttnbenchError(
        f"{folder} has no split {name!r}; its splits are {', '.join(splits) or 'none'}{hint}"
    )


def positions_of_slice(slice_: str, count: int) -> range:
    """Return the positions that a slice of a split selects, exactly as `datasets` selects them.

    Args:
        slice_: such as `[:50%]` or `[100:200]`, or the empty string for all positions.
        count: the number of pictures in the split.

    Raises:
        AttnbenchError: if the slice is malformed.
    """
    if not slice_:
        return range(count)
    from datasets import ReadInstruction  # takes seconds to import

    try:
        (part,) = ReadInstruction.from_spec(f"all{slice_}").to_absolute({"all": count})
    except (ValueError, AssertionError) as error:
        raise AttnbenchError(
            f"cannot take the slice {slice_} of {count} pictures ({str(error).rstrip('.')}); write, "
            "for example, [:100], [100:200] or [50%:]"
        ) from None
    return range(part.from_, part.to)


def divide(
    labels: NDArray[np.int64], names: Sequence[str], shares: Mapping[str, float], seed: int
) -> dict[str, NDArray[np.int64]]:
    """Divide pictures into disjoint parts, class by class.

    The pictures of a class are ordered by a hash of the seed and their names, and cut by the shares.
    A picture that is added to a class leaves the division of all other classes as it was.

    Args:
        labels: the class index of every picture, int64 `[N]`.
        names: the name of every picture within its class.
        shares: the share of each part. They add up to at most 1.
        seed: another seed gives another division.

    Returns:
        The positions of the pictures in each part, ascending.
    """
    hashes = np.array(
        [hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest() for name in names], dtype="U64"
    )
    ends = np.cumsum(list(shares.values()))
    positions: dict[str, list[NDArray[np.int64]]] = {part: [] for part in shares}
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        of_class = of_class[np.argsort(hashes[of_class], kind="stable")]
        cuts = np.rint(ends * len(of_class)).astype(np.int64)
        for part, rows in zip(shares, np.split(of_class, cuts), strict=False):
            positions[part].append(rows)
    nothing = np.zeros(0, np.int64)
    return {part: np.sort(np.concatenate([nothing, *rows])) for part, rows in positions.items()}
