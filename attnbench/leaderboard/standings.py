"""The standings of a track: its methods from best to worst, with their results and costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from attnbench.leaderboard.order import OrderCorrelations
from attnbench.leaderboard.pooling import (
    CostSummary,
    Method,
    Setting,
    SettingResult,
    counts_by_target,
    mean_criterion,
    method_of,
    pool_records,
    setting_of,
    summarise_badges,
    summarise_costs,
)
from attnbench.leaderboard.ranking import (
    Interval,
    advantage_over_control,
    control_results,
    rank_methods,
)
from attnbench.records.record import Identity, Record
from attnbench.statistics.intervals import d_prime_interval, percentile_interval
from attnbench.vocabulary import TRACKS, Badge

# The rank correlation with the control from which on a method counts as having its order.
_SAME_ORDER = 0.98


@dataclass(frozen=True)
class StandingsRow:
    """One method of a track.

    Attributes:
        method: the method.
        rank: one more than the number of significantly better methods. Methods with a failure share
            the last rank; a method that applies to no setting has None.
        mean_rank, mean_rank_interval: over settings; None with a failure or without a d'.
        d_prime, d_prime_interval: mean over the settings with a d', in z units; None likewise.
        advantage, advantage_interval: d_a minus that of the control `bias_only`, over the settings
            that both have; None if they share none.
        order_correlations: by setting, Spearman's correlation of its scores with those of the control.
        criterion: mean criterion c over episodes.
        costs: None if no episode has any.
        results: by setting.
        d_prime_intervals: by setting, where there is a d'.
        badge: of all its records together.
    """

    method: Method
    rank: int | None
    mean_rank: float | None
    mean_rank_interval: Interval | None
    d_prime: float | None
    d_prime_interval: Interval | None
    advantage: float | None
    advantage_interval: Interval | None
    order_correlations: Mapping[Setting, float]
    criterion: float | None
    costs: CostSummary | None
    results: Mapping[Setting, SettingResult]
    d_prime_intervals: Mapping[Setting, Interval]
    badge: str

    @property
    def settings_in_order_of_control(self) -> int:
        """In how many settings it orders the images as the control does: a correlation of 0.98."""
        return sum(value >= _SAME_ORDER for value in self.order_correlations.values())

    @property
    def device(self) -> str:
        """The device that its times were measured on, or the kind of device without costs."""
        return self.costs.device if self.costs else self.method.device


@dataclass(frozen=True)
class Standings:
    """The settings of a track in their order, and its rows from best to worst."""

    settings: tuple[Setting, ...]
    rows: tuple[StandingsRow, ...]


def standings_by_track(
    records: Sequence[Record], badges: Mapping[Identity, Badge], orders: OrderCorrelations
) -> dict[str, Standings]:
    """Return the standings of each track that has records: shipped tracks by size, then others.

    Args:
        records: all records, in any order.
        badges: by record identity; a record without one is self-reported.
        orders: from `attnbench.leaderboard.order.order_correlations`.
    """
    by_track: dict[str, Standings] = {}
    own = sorted({record.identity.track for record in records} - set(TRACKS))
    for track in (*TRACKS, *own):
        of_track = [record for record in records if record.identity.track == track]
        if of_track:
            by_track[track] = standings_of_track(of_track, badges, orders.get(track, {}))
    return by_track


def standings_of_track(
    records: Sequence[Record],
    badges: Mapping[Identity, Badge],
    orders: Mapping[Method, Mapping[Setting, float]],
) -> Standings:
    """Return the standings of one track's records; they do not depend on the records' order.

    Args:
        records: of a single track, at least one.
        badges: by record identity; a record without one is self-reported.
        orders: by method and setting, the correlation of scores with those of the control.
    """
    grouped: dict[Method, dict[Setting, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=_order):
        grouped[method_of(record)][setting_of(record.identity)].append(record)
    methods = sorted(grouped)
    settings = sorted({setting for by_setting in grouped.values() for setting in by_setting})
    results = {
        method: {setting: pool_records(group) for setting, group in grouped[method].items()}
        for method in methods
    }
    ranking = rank_methods(methods, settings, results)
    failed = [any(r.status == "failed" for r in results[method].values()) for method in methods]
    last_rank = 1 + len(methods) - sum(failed)
    controls = control_results(methods, results)
    rows = []
    for number, method in enumerate(methods):
        d_primes = {
            setting: result.d_prime
            for setting in settings
            if (result := results[method].get(setting)) and result.d_prime is not None
        }
        ranked = bool(d_primes) and not failed[number]
        counts = {s: counts_by_target(results[method][s].episodes) for s in d_primes}
        advantage = advantage_over_control(results[method], controls)
        mean_rank_replicates = ranking.mean_rank_replicates[:, number]
        of_method = [record for group in grouped[method].values() for record in group]
        rows.append(
            StandingsRow(
                method=method,
                rank=ranking.ranks[number] if ranked else last_rank if failed[number] else None,
                mean_rank=float(ranking.mean_ranks[number]) if ranked else None,
                mean_rank_interval=percentile_interval(mean_rank_replicates) if ranked else None,
                d_prime=fmean(d_primes.values()) if ranked else None,
                d_prime_interval=d_prime_interval(*counts.values()) if ranked else None,
                advantage=None if advantage is None else advantage[0],
                advantage_interval=None if advantage is None else advantage[1],
                order_correlations=orders.get(method, {}),
                criterion=mean_criterion(of_method),
                costs=summarise_costs(of_method),
                results=results[method],
                d_prime_intervals={s: d_prime_interval(c) for s, c in counts.items()},
                badge=summarise_badges(
                    [badges.get(record.identity, "self-reported") for record in of_method]
                ),
            )
        )
    rows.sort(
        key=lambda row: (
            row.rank or np.inf,
            -len(row.d_prime_intervals),  # a mean rank over fewer settings says less
            row.mean_rank or np.inf,
            row.method,
        )
    )
    return Standings(tuple(settings), tuple(rows))


def _order(record: Record) -> tuple[str, ...]:
    """Return a sort key that depends on the record alone, so that any input order gives the same."""
    return record.identity.model_dump_json(), record.created, record.scores_sha256
