"""The test images that a detector got wrong with the most extreme scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from attnbench.errors import AttnbenchError
from attnbench.records.record import Record
from attnbench.records.scores import read_scores


@dataclass(frozen=True)
class ScoredImage:
    """A test image and the score that a detector gave it.

    Attributes:
        name: its name in the scores.
        score: the score. A score above 0 says that the target is present.
    """

    name: str
    score: float


@dataclass(frozen=True)
class Errors:
    """The surest errors of a detector, the surest first.

    Attributes:
        target: the target.
        misses: images with the target that got the lowest scores, all of them at most 0.
        false_alarms: images without it that got the highest scores, all of them above 0.
    """

    target: str
    misses: tuple[ScoredImage, ...]
    false_alarms: tuple[ScoredImage, ...]


def surest_errors(path: Path, record: Record, count: int) -> list[Errors]:
    """Return the surest errors for each target of a record.

    Args:
        path: the record's JSON file. Its scores lie beside it.
        record: its content.
        count: how many misses and how many false alarms of each target to return at most.

    Raises:
        AttnbenchError: if the scores cannot be read.
    """
    try:
        scores = read_scores(path, record)
    except ValueError as error:
        raise AttnbenchError(f"{path}: {error}") from None
    errors = []
    for episode in record.episodes:
        if episode.status != "ok":
            continue
        rows = scores.filter(pc.equal(scores["target"], episode.target)).to_pylist()
        misses = [row for row in rows if row["present"] and row["score"] <= 0]
        false_alarms = [row for row in rows if not row["present"] and row["score"] > 0]
        misses.sort(key=lambda row: row["score"])
        false_alarms.sort(key=lambda row: -row["score"])
        errors.append(
            Errors(
                episode.target,
                *(
                    tuple(ScoredImage(row["image"], row["score"]) for row in kind[:count])
                    for kind in (misses, false_alarms)
                ),
            )
        )
    return errors
