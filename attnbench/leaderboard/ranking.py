"""Ranks of the methods of a track, and their advantage over the control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnbench.leaderboard.pooling import (
    Method,
    Setting,
    SettingResult,
    counts_by_target,
    mean_by_target,
)
from attnbench.statistics.comparison import mean_ranks, shared_ranks
from attnbench.statistics.intervals import bootstrap_d_primes, mean_interval

Floats = NDArray[np.float64]
Interval = tuple[float, float]
Results = Mapping[Method, Mapping[Setting, SettingResult]]
# The control that only moves the criterion: it learns a single bias.
CONTROL = "bias_only"
_REPLICATES = 2000


@dataclass(frozen=True)
class Ranking:
    """The ranks of m methods, in the order in which they were given.

    Attributes:
        ranks: one more than the number of significantly better methods.
        mean_ranks: float `[m]`, over the settings that a method has a d' in; NaN without any.
        mean_rank_replicates: float `[r, m]`, bootstrap replicates of them.
    """

    ranks: list[int]
    mean_ranks: Floats
    mean_rank_replicates: Floats


def rank_methods(
    methods: Sequence[Method], settings: Sequence[Setting], results: Results
) -> Ranking:
    """Rank methods by d', paired on the same targets.

    Deterministic: the bootstrap draws the same targets for every method, then images for each.
    """
    replicates = [_replicates(setting, methods, results) for setting in settings]
    estimates = np.array(
        [
            [_d_prime_or_nan(results[method].get(setting)) for method in methods]
            for setting in settings
        ]
    )
    covariances = np.array([np.atleast_2d(np.cov(drawn.T)) for drawn in replicates])
    by_target = [_d_primes_by_target(setting, methods, results) for setting in settings]
    return Ranking(
        shared_ranks(estimates, covariances, by_target),
        *_mean_ranks(estimates, np.array(replicates)),
    )


def control_results(methods: Sequence[Method], results: Results) -> dict[Setting, SettingResult]:
    """Return the control's results that have a d', from any device: d_a does not depend on it."""
    return {
        setting: result
        for method in methods
        if method.submission == CONTROL
        for setting, result in results[method].items()
        if result.d_prime is not None
    }


def advantage_over_control(
    results: Mapping[Setting, SettingResult], controls: Mapping[Setting, SettingResult]
) -> tuple[float, Interval] | None:
    """Return a method's d_a minus the control's, and the 95 % interval of the difference.

    The difference is paired by target and averaged over the settings that both have.

    Returns:
        None if the two share no target.
    """
    differences = []
    for setting, control in controls.items():
        result = results.get(setting)
        if result is None or result.d_prime is None:
            continue
        method_d_a, control_d_a = mean_by_target(result, "d_a"), mean_by_target(control, "d_a")
        targets = sorted(method_d_a.keys() & control_d_a.keys())
        if targets:
            differences.append(
                np.array([method_d_a[target] - control_d_a[target] for target in targets])
            )
    if not differences:
        return None
    means = [by_target.mean() for by_target in differences]
    return float(np.mean(means)), mean_interval(differences)


def _replicates(setting: Setting, methods: Sequence[Method], results: Results) -> Floats:
    """Return bootstrap replicates of every method's d', `[r, m]`; 0 for a method without a d'."""
    replicates = np.empty((_REPLICATES, len(methods)))
    for number, method in enumerate(methods):
        result = results[method].get(setting)
        if result is None or result.d_prime is None:
            replicates[:, number] = 0.0
            continue
        counts = counts_by_target(result.episodes)
        # Seed 0 for everyone: methods share the drawn targets. Images are drawn for each method.
        targets = np.random.default_rng(0).integers(0, len(counts), (_REPLICATES, len(counts)))
        rng = np.random.default_rng([1, number])
        replicates[:, number] = bootstrap_d_primes(counts, targets, rng)
    return replicates


def _d_primes_by_target(setting: Setting, methods: Sequence[Method], results: Results) -> Floats:
    """Return every method's d' on each target, `[n, m]`; NaN if a method lacks the target."""
    by_method: list[dict[str, float]] = []
    for method in methods:
        result = results[method].get(setting)
        has_d_prime = result is not None and result.d_prime is not None
        by_method.append(mean_by_target(result, "d_prime") if result and has_d_prime else {})
    targets = sorted(set().union(*by_method))
    values = [d_primes.get(target, np.nan) for target in targets for d_primes in by_method]
    return np.array(values).reshape(len(targets), len(methods))


def _d_prime_or_nan(result: SettingResult | None) -> float:
    return float("nan") if result is None or result.d_prime is None else result.d_prime


def _mean_ranks(estimates: Floats, replicates: Floats) -> tuple[Floats, Floats]:
    """Return mean ranks over the settings that each method has, `[m]` and `[r, m]`.

    In a setting, a method without a d' ranks last, and its own mean leaves that setting out.

    Args:
        estimates: float `[settings, m]`, NaN without a d'.
        replicates: float `[settings, r, m]`.
    """
    missing = np.isnan(estimates)
    means = []
    for values in (estimates, replicates):
        absent = missing if values.ndim == 2 else np.broadcast_to(missing[:, None], values.shape)
        ranks = np.stack([mean_ranks([v]) for v in np.where(absent, -np.inf, values)])
        means.append(np.ma.masked_array(ranks, absent).mean(axis=0).filled(np.nan))
    return means[0], means[1]
