"""Whether a record says what its own scores say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from attnbench.records.record import EpisodeResult, Measures, Record, Summary
from attnbench.records.summary import overall, summarise, without_intervals
from attnbench.statistics.detection import Roc, count, detection_of, roc

INTERVALS = frozenset(
    ("d_prime_low", "d_prime_high", "adaptation_seconds_low", "adaptation_seconds_high")
)
_COLUMNS = {"target", "image", "present", "score"}
# Figures are computed from the scores by the same formulas; only rounding may differ.
_TOLERANCE = 1e-6


def read_scores(path: Path, record: Record) -> pd.DataFrame:
    """The scores beside a record, a row per test image.

    Raises:
        ValueError: where they are not there, not a table of scores, or not those of the record.
    """
    scores: pd.DataFrame = read_table(path, record).to_pandas()
    return scores


def read_table(path: Path, record: Record) -> pa.Table:
    """The same as a table of Arrow's, which is quicker where there are many records."""
    file = path.with_suffix(".parquet")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"its scores cannot be read ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != record.scores_sha256:
        raise ValueError("its scores are not the ones it was written with (their hash differs)")
    try:
        scores = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    except Exception as error:  # a damaged file can raise nearly anything
        raise ValueError(f"its scores cannot be read ({type(error).__name__})") from None
    if set(scores.column_names) != _COLUMNS or len(scores.column_names) != len(_COLUMNS):
        raise ValueError(f"its scores have the columns {', '.join(scores.column_names)}")
    present, score = scores["present"], scores["score"]
    is_present, is_number = pa.types.is_boolean(present.type), pa.types.is_floating(score.type)
    if not is_present or present.null_count or not is_number:
        raise ValueError("its scores are not numbers beside truth values")
    if any(not _is_text(scores[name]) for name in ("target", "image")):
        raise ValueError("its scores do not name targets and images in text")
    if score.null_count or not np.isfinite(score.to_numpy()).all():
        raise ValueError("some of its scores are NaN or infinite")
    return scores


def _is_text(column: pa.ChunkedArray) -> bool:
    kind = column.type
    return not column.null_count and (pa.types.is_string(kind) or pa.types.is_large_string(kind))


@dataclass(frozen=True)
class Responses:
    """The scores of one episode's test images, and which of these have the target, `[n]` each."""

    scores: NDArray[np.floating[Any]]
    present: NDArray[np.bool_]

    @cached_property
    def roc(self) -> Roc:
        """Their curve. Raises ValueError without images of both kinds."""
        return roc(self.scores, self.present)


def responses_by_target(scores: pa.Table) -> dict[str, Responses]:
    """The rows of each target, as they come."""
    targets = scores["target"].combine_chunks().dictionary_encode()
    names, codes = targets.dictionary.to_pylist(), targets.indices.to_numpy(zero_copy_only=False)
    number, present = scores["score"].to_numpy(), scores["present"].to_numpy()
    starts = _starts(codes)
    if len(starts) != len(names):  # the rows of a target are not together
        order = np.argsort(codes, kind="stable")
        codes, number, present = codes[order], number[order], present[order]
        starts = _starts(codes)
    return {
        names[codes[start]]: Responses(number[start:end], present[start:end])
        for start, end in pairwise([*starts, len(codes)])
    }


def _starts(codes: NDArray[np.int32]) -> list[int]:
    """Where another code begins."""
    return [0, *(1 + np.flatnonzero(codes[1:] != codes[:-1])).tolist()] if len(codes) else []


def contradictions(path: Path, record: Record) -> list[str]:
    """What in a record its own scores and episodes do not bear out; nothing in one left as written."""
    try:
        responses = responses_by_target(read_table(path, record))
    except ValueError as error:
        return [str(error)]
    found = contradictions_with(responses, record)
    return found + _in_summary(record, summarise(record.episodes), INTERVALS)


def contradictions_with(responses: Mapping[str, Responses], record: Record) -> list[str]:
    """The same of scores that have been read already, but for the summary's `INTERVALS`.

    That of times takes a bootstrap to check, and a leaderboard has intervals of its own.
    """
    found = []
    for episode in record.episodes:
        found += list(_in_episode(episode, responses.get(episode.target)))
    expected = without_intervals(record.episodes)
    found += _in_summary(record, expected, Summary.model_fields.keys() - INTERVALS)
    if (record.status, record.reason) != overall(record.episodes):
        found.append(f"its status is {record.status}, its episodes say otherwise")
    return found


def _in_summary(record: Record, expected: Summary, names: Set[str]) -> list[str]:
    return [
        f"its {name} is {getattr(record.summary, name)}, its episodes say {value}"
        for name, value in expected
        if name in names and not _same(value, getattr(record.summary, name))
    ]


def _in_episode(episode: EpisodeResult, responses: Responses | None) -> Iterator[str]:
    if episode.measures is None:
        if responses is not None:
            yield f"{episode.target}: a failure with scores"
        return
    if responses is None or not responses.present.any() or responses.present.all():
        yield f"{episode.target}: no scores of positives and negatives"
        return
    counts = count(responses.scores, responses.present)
    says = Measures.of(detection_of(responses.roc, counts))
    for name, value in says:
        recorded = getattr(episode.measures, name)
        if not _same(value, recorded):
            yield f"{episode.target}: its {name} is {recorded}, its scores say {value}"


def _same(expected: float | None, found: float | None) -> bool:
    if expected is None or found is None:
        return expected is found
    return abs(expected - found) <= _TOLERANCE * max(1.0, abs(expected))
