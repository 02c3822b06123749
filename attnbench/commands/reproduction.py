"""Comparing an episode that was run again with its record, up to what rounding can explain."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from attnbench.judge.prediction_checks import count_different
from attnbench.records.outcome import EpisodeOutcome
from attnbench.records.record import EpisodeResult

# Other thread counts and library versions round differently, and training amplifies that. This share of
# the scores may differ, and d′ may change by this much.
_MAX_DIFFERENT_SHARE, _MAX_D_PRIME_CHANGE = 0.02, 0.1
# Another device may compute frozen layers in another precision (see `frozen_features`). Then scores
# must correlate at least this well, and d′ may change by this much. Where d′ is high, a few images
# change it by that much.
_MIN_CORRELATION, _MAX_D_PRIME_CHANGE_OTHER_DEVICE = 0.999, 0.25
# Times in passes may exceed the recorded ones by this factor, or by this many seconds, on any machine.
_MAX_TIME_FACTOR, _MAX_EXTRA_SECONDS = 3.0, 0.1


def mismatches(
    recorded: EpisodeResult,
    recorded_scores: pa.Table,
    rerun: EpisodeOutcome,
    *,
    other_device: bool,
) -> Iterator[str]:
    """Yield what differs, except for times, by more than rounding or precision can explain.

    Args:
        recorded: the episode in the record.
        recorded_scores: its scores, see `attnbench.records.outcome.SCORES_SCHEMA`.
        rerun: the outcome of running it again.
        other_device: whether it was run again on a device of another name.
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
        if difference := _score_difference(before, now, other_device=other_device):
            yield difference
    change = abs(recorded.measures.d_prime - result.measures.d_prime)
    if change > (_MAX_D_PRIME_CHANGE_OTHER_DEVICE if other_device else _MAX_D_PRIME_CHANGE):
        yield f"d′ recorded as {recorded.measures.d_prime:.2f}, now {result.measures.d_prime:.2f}"
    for name in ("parameters_added", "parameters_changed"):
        count, new_count = getattr(recorded.cost, name), getattr(result.cost, name)
        if count != new_count:
            yield f"{name} recorded as {count:,}, now {new_count:,}"


def _score_difference(
    before: NDArray[np.float64], now: NDArray[np.float64], *, other_device: bool
) -> str | None:
    """Say in words how two sets of scores `[n]` disagree; return None if they agree."""
    different = count_different(before, now, before)
    if different <= _MAX_DIFFERENT_SHARE * len(before):
        return None
    if other_device and before.std() > 0 and now.std() > 0:
        correlation = float(np.corrcoef(before, now)[0, 1])
        if correlation >= _MIN_CORRELATION:
            return None
        return f"the scores correlate with the recorded ones by only {correlation:.4f}"
    return f"{different} of {len(before)} scores differ"


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
