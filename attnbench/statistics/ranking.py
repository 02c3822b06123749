"""Ranking methods against a control and among each other: pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnbench.statistics.intervals import Floats
from attnbench.statistics.joint_means import JointMeans, joint_means

LEVEL = 0.05


@dataclass(frozen=True)
class Ranking:
    """What tests say about m methods, each step at 5 % after Holm's correction.

    Attributes:
        differences: each method's difference from the control, `[m]`; None without a control.
        verdicts: int `[m]`: 1 for above the control, -1 for below, 0 for neither.
        ranks: int `[m, 2]`, the best and the worst rank that the tests leave open.
        tests: number of methods tested against the control.
        pairs: number of pairs of methods tested.
    """

    differences: JointMeans | None
    verdicts: NDArray[np.int64]
    ranks: NDArray[np.int64]
    tests: int
    pairs: int


def rank_methods(values: Floats, control: Floats | None, tested: NDArray[np.bool_]) -> Ranking:
    """Test methods against the control, then those above it against each other.

    Each method that is above the control is therefore also better than all that are below it. Without
    a control, all pairs are tested.

    Args:
        values: float `[m, settings, targets, episodes]`, NaN where a method lacks an episode. All
            methods have values in the same settings and targets.
        control: float `[settings, targets, episodes]`, the control's values of the same episodes.
        tested: bool `[m]`, whether to test the method against the control, as it is not the control.
    """
    verdicts = np.zeros(len(values), np.int64)
    differences, tests = None, 0
    if control is not None:
        differences, tests = joint_means(paired_differences(values, control)), int(tested.sum())
        significant = np.zeros(len(values), bool)
        significant[tested] = holm(differences.p_values()[tested]) < LEVEL
        verdicts[significant] = np.sign(differences.estimates[significant])
    placed = (verdicts != 0) | ~tested
    better = placed[:, None] & placed & (verdicts[:, None] > verdicts)
    candidates = np.flatnonzero(verdicts == 1) if control is not None else np.arange(len(values))
    firsts, seconds = np.triu_indices(len(candidates), 1)
    if len(firsts):
        pairs = pair_differences(values[candidates])
        first, second = candidates[firsts], candidates[seconds]
        is_better = np.where(pairs.estimates > 0, 1, -1) * (holm(pairs.p_values()) < LEVEL)
        better[first[is_better == 1], second[is_better == 1]] = True
        better[second[is_better == -1], first[is_better == -1]] = True
    ranks = np.stack([1 + better.sum(axis=0), len(values) - better.sum(axis=1)], axis=1)
    return Ranking(differences, verdicts, ranks, tests, len(firsts))


def paired_differences(values: Floats, other: Floats) -> Floats:
    """Return each method's differences from another one, means over the episodes that both have.

    Args:
        values: float `[m, settings, targets, episodes]`, NaN where a method lacks an episode.
        other: float `[settings, targets, episodes]`.

    Returns:
        float `[settings, targets, m]`, NaN where the two share no episode.
    """
    return np.moveaxis(mean_of_known(values - other), 0, -1)


def pair_differences(values: Floats) -> JointMeans:
    """Return the differences, first - second, of all pairs in the order of `np.triu_indices(m, 1)`.

    Args:
        values: as for `paired_differences`.
    """
    differences = [
        -paired_differences(values[number + 1 :], of_one)
        for number, of_one in enumerate(values[:-1])
    ]
    return joint_means(np.concatenate(differences, axis=-1))


def mean_of_known(values: Floats) -> Floats:
    """Return means over the last axis without NaN, `[...]`; NaN where all are NaN."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means: Floats = np.where(known, values, 0).sum(axis=-1) / known.sum(axis=-1)
    return means


def holm(ps: Floats) -> Floats:
    """Return p-values `[n]` with Holm's step-down correction (Scand. J. Statist. 6, 1979)."""
    order = np.argsort(ps, kind="stable")
    stepped = np.asarray(ps)[order] * np.arange(len(ps), 0, -1)
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return corrected


def pareto_margins(benefits: Floats, costs: Floats) -> Floats:
    """Return the lead of each method over all methods that cost no more, `[..., m]`.

    A method with a margin above 0 is on the Pareto front: no other method has as large a benefit for
    costs as small. The margin is infinite if no other method costs as little. Of two equal methods
    neither has a margin above 0.

    Args:
        benefits: float `[..., m]`, larger is better; for instance bootstrap replicates.
        costs: float `[m, k]`, smaller is better.
    """
    margins = np.full(benefits.shape, np.inf)
    for number in range(len(costs)):
        as_cheap = (costs <= costs[number]).all(axis=1)
        as_cheap[number] = False
        if as_cheap.any():
            margins[..., number] = benefits[..., number] - benefits[..., as_cheap].max(axis=-1)
    return margins
