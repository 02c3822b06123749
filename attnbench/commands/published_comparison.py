"""How the records of a run compare with the published ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnbench.errors import AttnbenchError
from attnbench.records.record import Identity, Record
from attnbench.records.scores import as_array, read_scores
from attnbench.records.store import RecordStore
from attnbench.vocabulary import ISOLATION_LEVELS


@dataclass(frozen=True)
class _Comparison:
    """A record and the published one of the same name.

    Attributes:
        published: the published record.
        difference: the largest absolute difference of their scores; None if they cannot be compared.
        obstacle: why the scores cannot be compared; empty if they can.
        changed: what has another version: the submission, the task or the backbone.
    """

    published: Record
    difference: float | None
    obstacle: str
    changed: tuple[str, ...]


def compare_with_published(files: Sequence[Path], published: Path) -> str:
    """Return in one line how records compare with the published ones of the same name.

    Args:
        files: the records' JSON files.
        published: the folder of published records, which may not exist.

    Returns:
        Such as "d′ 3.07, same to the bit". Empty if none of them is published.
    """
    compared = list(_compare_all(files, RecordStore(published)))
    if not compared:
        return ""
    same = sum(one.difference == 0 for one in compared)
    largest = max((one.difference for one in compared if one.difference), default=0.0)
    differing = sum(bool(one.difference) for one in compared)
    parts = [
        f"same to the bit{_of(same, compared)}" if same else "",
        f"scores differ by at most {largest:.2g}{_of(differing, compared)}" if differing else "",
        *dict.fromkeys(one.obstacle for one in compared),
    ]
    d_prime = compared[0].published.summary.d_prime
    if len(compared) == 1 and d_prime is not None:
        parts.insert(0, f"d′ {d_prime:.2f}")
    changed = dict.fromkeys(part for one in compared for part in one.changed)
    versions = f" (made with another version of the {' and the '.join(changed)})" if changed else ""
    return ", ".join(filter(None, parts)) + versions


def _of(number: int, compared: Sequence[_Comparison]) -> str:
    return "" if len(compared) == 1 else f" in {number} of {len(compared)} records"


def _compare_all(files: Sequence[Path], published: RecordStore) -> Iterator[_Comparison]:
    for file in files:
        try:
            record = RecordStore(file.parent).read(file)
            found = _find(record.identity, published)
        except AttnbenchError:
            continue
        if found is not None:
            yield _compare(file, record, *found)


def _find(identity: Identity, published: RecordStore) -> tuple[Path, Record] | None:
    # The isolation of a run changes neither scores nor parameters.
    for level in ISOLATION_LEVELS:
        path = published.path_of(identity.model_copy(update={"isolation": level}))
        if path.is_file():
            return path, published.read(path)
    return None


def _compare(file: Path, own: Record, published_file: Path, published: Record) -> _Comparison:
    difference, obstacle = None, ""
    if published.status != "ok" or own.status != "ok":
        obstacle = published.status
    else:
        try:
            difference = _largest_difference(file, own, published_file, published)
        except ValueError as error:
            obstacle = str(error)
    changed = tuple(
        part
        for part in ("submission", "task", "backbone")
        if getattr(own.identity, f"{part}_sha256") != getattr(published.identity, f"{part}_sha256")
    )
    return _Comparison(published, difference, obstacle, changed)


def _largest_difference(file: Path, own: Record, published_file: Path, published: Record) -> float:
    """Return the largest difference. Raise ValueError for unreadable scores or different images."""
    ours, theirs = read_scores(file, own), read_scores(published_file, published)
    images = ours.select(["target", "image", "present"])
    if not images.equals(theirs.select(images.column_names).cast(images.schema)):
        raise ValueError("the test images differ")
    return float(np.abs(as_array(ours["score"]) - as_array(theirs["score"])).max(initial=0.0))
