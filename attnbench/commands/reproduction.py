"""Comparing an episode that was run again with its record, up to what rounding can explain."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from attnbench.judge.prediction_checks import count_different
from attnbench.records.outcome import EpisodeOutcome
from attnbench.records.record import EpisodeResult

# Other thread counts and library versions round differently, and training amplifies that. This share of
# the scores may differ, and d′ may change by this much.
_MAX_DIFFERENT_SHARE, _MAX_D_PRIME_CHANGE = 0.02, 0.1
# Times in passes may exceed the recorded ones by this factor, or by this many seconds, on any machine.
_MAX_TIME_FACTOR, _MAX_EXTRA_SECONDS = 3.0, 0.1


def other_precision(recorded: EpisodeResult, result: EpisodeResult) -> str | None:
    """Say in words that an episode was computed in other precisions than recorded, or return None.

    Args:
        recorded: the episode in the record. Older records do not say in which precision.
        result: its result when it was run again.
    """
    before, now = recorded.precision, result.precision
    if not before or not now or before == now:
        return None
    return f"recorded in {', '.join(before)}, now computed in {', '.join(now)}"


def mismatches(
    recorded: EpisodeResult, recorded_scores: pa.Table, rerun: EpisodeOutcome
) -> Iterator[str]:
    """Yield what differs, except for times, by more than rounding can explain.

    Args:
        recorded: the episode in the record.
        recorded_scores: its scores, see `attnbench.records.outcome.SCORES_SCHEMA`.
        rerun: the outcome of running it again.
    """
    result = rerun.result
    if recorded.images_sha256 != result.images_sha256:
        yield "the images differ"
        return
    if recorded.status != result.status:
        yield f"recorded as {recorded.status}, now {result.status} {result.reason}".rstrip()
        return
    if recorded.measures is None or result.measures is None:
        return
    assert recorded.cost is not None and result.cost is not None
    if any(
        recorded_scores[column].to_pylist() != rerun.scores[column].to_pylist()
        for column in ("image", "present")
    ):
        yield "the scores are of different images"
    else:
        before, now = (
            table["score"].to_numpy().astype(np.float64)
            for table in (recorded_scores, rerun.scores)
        )
        different = count_different(before, now, before)
        if different > _MAX_DIFFERENT_SHARE * len(before):
            yield f"{different} of {len(before)} scores differ"
    change = abs(recorded.measures.d_prime - result.measures.d_prime)
    if change > _MAX_D_PRIME_CHANGE:
        yield f"d′ recorded as {recorded.measures.d_prime:.2f}, now {result.measures.d_prime:.2f}"
    for name in ("parameters_added", "parameters_changed"):
        count, new_count = getattr(recorded.cost, name), getattr(result.cost, name)
        if count != new_count:
            yield f"{name} recorded as {count:,}, now {new_count:,}"


def slower_adaptation(recorded: EpisodeResult, result: EpisodeResult) -> str | None:
    """Say in words by how much an adaptation was slower than recorded; return None if it was not.

    If the recorded episode was contended, its times are not compared.

    Args:
        recorded: the episode in the record.
        result: its result when it was run again.
    """
    if recorded.cost is None or result.cost is None or recorded.cost.contended:
        return None
    before, now = (
        cost.adaptation_seconds / cost.pass_seconds for cost in (recorded.cost, result.cost)
    )
    extra_seconds = (now - before) * result.cost.pass_seconds
    if now > _MAX_TIME_FACTOR * before and extra_seconds > _MAX_EXTRA_SECONDS:
        return f"adaptation recorded as {before:.2f} passes, now {now:.2f}"
    return None
