"""Whether a record says what its own scores say."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from attnbench.records.record import EpisodeResult, Measures, Record
from attnbench.records.summary import overall, summarise
from attnbench.statistics.detection import detect

_COLUMNS = {"target", "image", "present", "score"}
# Figures are computed from the scores by the same formulas; only rounding may differ.
_TOLERANCE = 1e-6


def read_scores(path: Path, record: Record) -> pd.DataFrame:
    """The scores beside a record, a row per test image.

    Raises:
        ValueError: where they are not there, not a table of scores, or not those of the record.
    """
    file = path.with_suffix(".parquet")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ValueError(f"its scores cannot be read ({error.strerror})") from None
    if hashlib.sha256(content).hexdigest() != record.scores_sha256:
        raise ValueError("its scores are not the ones it was written with (their hash differs)")
    try:
        scores = pd.read_parquet(io.BytesIO(content))
    except Exception as error:  # a damaged file can raise nearly anything
        raise ValueError(f"its scores cannot be read ({type(error).__name__})") from None
    if set(scores.columns) != _COLUMNS:
        raise ValueError(f"its scores have the columns {', '.join(map(str, scores.columns))}")
    if scores["present"].dtype != bool or scores["score"].dtype.kind != "f":
        raise ValueError("its scores are not numbers beside truth values")
    if not np.isfinite(scores["score"].to_numpy()).all():
        raise ValueError("some of its scores are NaN or infinite")
    return scores


def contradictions(path: Path, record: Record) -> list[str]:
    """What in a record its own scores and episodes do not bear out; nothing in one left as written."""
    try:
        scores = read_scores(path, record)
    except ValueError as error:
        return [str(error)]
    found = []
    for episode in record.episodes:
        found += list(_in_episode(episode, scores[scores["target"] == episode.target]))
    expected = summarise(record.episodes)
    for name, value in expected:
        if not _same(value, getattr(record.summary, name)):
            found.append(f"its {name} is {getattr(record.summary, name)}, its episodes say {value}")
    if (record.status, record.reason) != overall(record.episodes):
        found.append(f"its status is {record.status}, its episodes say otherwise")
    return found


def _in_episode(episode: EpisodeResult, scores: pd.DataFrame) -> Iterator[str]:
    if episode.measures is None:
        if len(scores):
            yield f"{episode.target}: a failure with scores"
        return
    if not scores["present"].any() or scores["present"].all():
        yield f"{episode.target}: no scores of positives and negatives"
        return
    says = Measures.of(detect(scores["score"].to_numpy(), scores["present"].to_numpy()))
    for name, value in says:
        recorded = getattr(episode.measures, name)
        if not _same(value, recorded):
            yield f"{episode.target}: its {name} is {recorded}, its scores say {value}"


def _same(expected: float | None, found: float | None) -> bool:
    if expected is None or found is None:
        return expected is found
    return abs(expected - found) <= _TOLERANCE * max(1.0, abs(expected))
