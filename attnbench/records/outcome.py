"""The outcome of an episode: its result, its scores, and where they were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from attnbench.records.record import Environment, EpisodeResult

# A row per test image. Scores stay in this form from the worker's array to the Parquet file.
SCORES_SCHEMA = pa.schema(
    {
        "target": pa.string(),
        "image": pa.string(),
        "present": pa.bool_(),
        "score": pa.float32(),
    }
)


@dataclass(frozen=True)
class EpisodeOutcome:
    """The outcome of judging an episode.

    Attributes:
        result: the measures and the cost, or why there are none.
        scores: a row per test image, see `SCORES_SCHEMA`; no rows after a failure.
        environment: the machine and versions that it was measured with.
    """

    result: EpisodeResult
    scores: pa.Table
    environment: Environment

    def as_contended(self) -> EpisodeOutcome:
        """Return the same outcome with its times marked as contended."""
        if self.result.cost is None:
            return self
        cost = self.result.cost.model_copy(update={"contended": True})
        return replace(self, result=self.result.model_copy(update={"cost": cost}))


def scores_table(
    target: str,
    images: Sequence[str],
    present: NDArray[np.bool_],
    scores: NDArray[np.floating[Any]],
) -> pa.Table:
    """Return the scores of one episode as a table, see `SCORES_SCHEMA`.

    Args:
        target: the episode's target.
        images: the name of each test image, `[n]`.
        present: bool `[n]`, whether the target is in the image.
        scores: float `[n]`.
    """
    columns = [
        pa.array([target] * len(scores), pa.string()),
        pa.array(images, pa.string()),
        pa.array(np.asarray(present, bool)),
        pa.array(np.asarray(scores, np.float32)),
    ]
    return pa.table(columns, schema=SCORES_SCHEMA)
