"""Checks that a record agrees with its own scores."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from attnbench.records.record import EpisodeResult, Measures, Record, Summary
from attnbench.records.summary import overall, summarise, summarise_without_intervals
from attnbench.statistics.detection import Roc, count, detection_of, roc

# The fields of a summary whose computation takes a bootstrap.
INTERVALS = frozenset(
    ("d_prime_low", "d_prime_high", "adaptation_seconds_low", "adaptation_seconds_high")
)
_COLUMNS = {"target", "image", "present", "score"}
# Values are recomputed from the scores by the same formulas, so only rounding may differ.
_TOLERANCE = 1e-6


def read_scores(path: Path, record: Record) -> pa.Table:
    """Read the scores beside a record: a row per test image.

    Args:
        path: the record's JSON file.
        record: the record in it.

    Raises:
        ValueError: if the file is missing, is not a table of scores, or belongs to another record.
    """
    file = path.with_suffix(".parquet")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"its scores cannot be read ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != record.scores_sha256:
        raise ValueError("its scores are not those it was written with (their hash differs)")
    try:
        scores = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    except Exception as error:  # a damaged file can raise nearly anything
        raise ValueError(f"its scores cannot be read ({type(error).__name__})") from None
    _check_scores(scores)
    return scores


def _check_scores(scores: pa.Table) -> None:
    if set(scores.column_names) != _COLUMNS or len(scores.column_names) != len(_COLUMNS):
        raise ValueError(f"its scores have the columns {', '.join(scores.column_names)}")
    present, score = scores["present"], scores["score"]
    has_present = pa.types.is_boolean(present.type) and not present.null_count
    if not has_present or not pa.types.is_floating(score.type):
        raise ValueError("the columns `present` and `score` are not booleans and floats")
    if any(not _is_text(scores[name]) for name in ("target", "image")):
        raise ValueError("the columns `target` and `image` are not text")
    if score.null_count or not np.isfinite(score.to_numpy()).all():
        raise ValueError("some of its scores are NaN or infinite")


def _is_text(column: pa.ChunkedArray) -> bool:
    kind = column.type
    return not column.null_count and (pa.types.is_string(kind) or pa.types.is_large_string(kind))


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
    names, codes = targets.dictionary.to_pylist(), targets.indices.to_numpy(zero_copy_only=False)
    values, present = scores["score"].to_numpy(), scores["present"].to_numpy()
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
        if name in names and not _same(value, getattr(record.summary, name))
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


def _same(expected: float | None, actual: float | None) -> bool:
    if expected is None or actual is None:
        return expected is actual
    return abs(expected - actual) <= _TOLERANCE * max(1.0, abs(expected))
