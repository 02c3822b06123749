"""Summaries of a record's scores: a mean ROC curve and the decisions, small enough to keep for all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from attnbench.records.integrity import Responses
from attnbench.records.record import Record

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
# Where ROC curves of several episodes are averaged. Detectors have few false alarms, so the grid is
# finer there.
FALSE_ALARM_RATES: Floats = np.concatenate([np.linspace(0, 0.1, 21), np.linspace(0.125, 1, 36)])


@dataclass(frozen=True)
class ScoreSummary:
    """What the leaderboard keeps of a record's scores, its episodes concatenated in target order.

    Attributes:
        hit_rates: float `[57]`, the mean ROC curve over episodes at `FALSE_ALARM_RATES`.
        hit_rate_errors: float `[57]`, the standard errors of these means over episodes; 0 for a
            single episode.
        images: a digest of the test images, their order and their classes. Records with the same
            digest can be compared image by image.
        count: number of test images.
        packed_present: packed bits, whether each image has the target.
        packed_decisions: packed bits, whether the detector called each image present.
        ranks: uint8 `[count]`, the rank of each score among those of its episode, from 0 to 255.
    """

    hit_rates: Floats
    hit_rate_errors: Floats
    images: str
    count: int
    packed_present: NDArray[np.uint8]
    packed_decisions: NDArray[np.uint8]
    ranks: NDArray[np.uint8]

    @property
    def present(self) -> Bools:
        """Whether each image has the target, bool `[count]`."""
        return np.unpackbits(self.packed_present, count=self.count).astype(bool)

    @property
    def decisions(self) -> Bools:
        """Whether the detector called each image present, bool `[count]`."""
        return np.unpackbits(self.packed_decisions, count=self.count).astype(bool)


def summarise_scores(
    record: Record, responses: Mapping[str, Responses], images: Sequence[str]
) -> ScoreSummary:
    """Summarise the scores of a record whose episodes are all ok.

    Args:
        record: the record.
        responses: by target, each with images of both classes.
        images: the names of all test images, in the order of the score table.
    """
    episodes = sorted(record.episodes, key=lambda episode: episode.target)
    by_episode = [responses[episode.target] for episode in episodes]
    present = np.concatenate([episode.present for episode in by_episode])
    packed_present = np.packbits(present)
    names = [f"{record.identity.seed}", *(f"{e.target}\0{e.images_sha256}" for e in episodes)]
    digest = hashlib.sha256("\0".join([*names, *images]).encode())
    digest.update(packed_present.tobytes())
    curves = np.array([episode.roc.hit_rates(FALSE_ALARM_RATES) for episode in by_episode])
    spread = curves.std(axis=0, ddof=1) if len(curves) > 1 else np.zeros(len(FALSE_ALARM_RATES))
    return ScoreSummary(
        hit_rates=curves.mean(axis=0),
        hit_rate_errors=spread / np.sqrt(len(curves)),
        images=digest.hexdigest(),
        count=len(present),
        packed_present=packed_present,
        packed_decisions=np.packbits(np.concatenate([e.scores > 0 for e in by_episode])),
        ranks=np.concatenate([coarse_ranks(e.scores) for e in by_episode]),
    )


def rank_correlation(one: ScoreSummary, other: ScoreSummary) -> float:
    """Return Spearman's rank correlation of two records' scores on the same images.

    It is pooled over episodes, in each of which ranks have the same range. As ranks have 256 levels,
    it differs from the exact one by less than 0.001.

    Returns:
        NaN if all scores of a record are equal.
    """
    deviations = [
        ranks - ranks.mean() for ranks in (one.ranks.astype(float), other.ranks.astype(float))
    ]
    product = float(deviations[0] @ deviations[1])
    norm = float(np.linalg.norm(deviations[0]) * np.linalg.norm(deviations[1]))
    return product / norm if norm else float("nan")


def coarse_ranks(scores: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Return the ranks of scores `[n]` on 256 levels, uint8 `[n]`. Equal scores share a rank."""
    # Ranks run from 1 to n.
    relative: Floats = (rankdata(scores) - 0.5) / len(scores)
    return np.floor(256 * relative).astype(np.uint8)
