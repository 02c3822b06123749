"""Checks that a record agrees with its own scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from attnbench.records.record import EpisodeResult, Measures, Record, Summary
from attnbench.records.scores import as_array, read_scores
from attnbench.records.summary import overall, summarise, summarise_without_intervals
from attnbench.statistics.detection import Roc, count, detection_of, roc

# The fields of a summary whose computation takes a bootstrap.
INTERVALS = frozenset(
    ("d_prime_low", "d_prime_high", "adaptation_seconds_low", "adaptation_seconds_high")
)
# Older records lack these.
_LATER = frozenset(("d_prime_pooled",))
# Values are recomputed from the scores by the same formulas, so only rounding may differ.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Responses:
    """A detector's responses to one episode's test images.

    Attributes:
        scores: float `[n]`.
        present: bool `[n]`, whether the target is in the image.
    """

    scores: NDArray[np.floating[Any]]
    present: NDArray[np.bool_]

    @cached_property
    def roc(self) -> Roc:
        """The ROC curve. Raises ValueError without positives or without negatives."""
        return roc(self.scores, self.present)


def responses_by_target(scores: pa.Table) -> dict[str, Responses]:
    """Return the responses to each target's images, in the order of the table.

    Args:
        scores: a table of scores, see `attnbench.records.outcome.SCORES_SCHEMA`.
    """
    targets = scores["target"].combine_chunks().dictionary_encode()
    names = targets.dictionary.to_pylist()
    codes = np.asarray(np.from_dlpack(targets.indices), np.int32)
    values, present = as_array(scores["score"]), as_array(scores["present"])
    starts = _run_starts(codes)
    if len(starts) != len(names):  # the rows of a target are not contiguous
        order = np.argsort(codes, kind="stable")
        codes, values, present = codes[order], values[order], present[order]
        starts = _run_starts(codes)
    return {
        names[codes[start]]: Responses(values[start:end], present[start:end])
        for start, end in pairwise([*starts, len(codes)])
    }


def _run_starts(codes: NDArray[np.int32]) -> list[int]:
    """Return the index at which each run of equal codes starts."""
    return [0, *(1 + np.flatnonzero(codes[1:] != codes[:-1])).tolist()] if len(codes) else []


def contradictions(path: Path, record: Record) -> list[str]:
    """Return where a record contradicts its own scores and episodes. Empty if it is consistent.

    Args:
        path: the record's JSON file.
        record: the record in it.
    """
    try:
        responses = responses_by_target(read_scores(path, record))
    except ValueError as error:
        return [str(error)]
    problems = contradictions_with(responses, record)
    return problems + _in_summary(record, summarise(record.episodes), INTERVALS)


def contradictions_with(responses: Mapping[str, Responses], record: Record) -> list[str]:
    """As `contradictions`, with scores that have been read already, and without `INTERVALS`.

    Checking intervals takes a bootstrap, and a leaderboard computes its own.

    Args:
        responses: the record's scores by target.
        record: the record.
    """
    problems = []
    for episode in record.episodes:
        problems += list(_in_episode(episode, responses.get(episode.target)))
    expected = summarise_without_intervals(record.episodes)
    problems += _in_summary(record, expected, Summary.model_fields.keys() - INTERVALS)
    if (record.status, record.reason) != overall(record.episodes, record.not_run):
        problems.append(f"its status is {record.status}, which its episodes contradict")
    return problems


def _in_summary(record: Record, expected: Summary, names: Set[str]) -> list[str]:
    return [
        f"its {name} is {getattr(record.summary, name)}, but its episodes give {value}"
        for name, value in expected
        if name in names
        and not (name in _LATER and getattr(record.summary, name) is None)
        and not _same(value, getattr(record.summary, name))
    ]


def _in_episode(episode: EpisodeResult, responses: Responses | None) -> Iterator[str]:
    if episode.measures is None:
        # Scores of a failed episode would let a record claim results that were never judged.
        if responses is not None:
            yield f"{episode.target}: a failure with scores"
        return
    if responses is None or not responses.present.any() or responses.present.all():
        yield f"{episode.target}: scores of positives or of negatives are missing"
        return
    counts = count(responses.scores, responses.present)
    expected = Measures.of(detection_of(responses.roc, counts))
    for name, value in expected:
        recorded = getattr(episode.measures, name)
        if not _same(value, recorded):
            yield f"{episode.target}: its {name} is {recorded}, but its scores give {value}"


def _same(expected: object, actual: object) -> bool:
    """Return whether two values are equal, numbers up to rounding."""
    if isinstance(expected, int | float) and isinstance(actual, int | float):
        return abs(expected - actual) <= _TOLERANCE * max(1.0, abs(expected))
    return expected == actual
