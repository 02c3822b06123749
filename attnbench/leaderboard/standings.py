"""The standings of a track: its methods from best to worst, with their results and costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attnbench.leaderboard.comparable import CONTROL, Comparable, find_comparable
from attnbench.leaderboard.order import OrderCorrelations
from attnbench.leaderboard.pareto import CostPoint, ParetoMember, pareto_front
from attnbench.leaderboard.placement import Placement, Placements, place_methods
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
from attnbench.records.record import Identity, Record
from attnbench.statistics.intervals import Interval, d_prime_interval
from attnbench.vocabulary import TRACKS, Badge

# The rank correlation with the control from which on a method counts as having its order.
_SAME_ORDER = 0.98


@dataclass(frozen=True)
class StandingsRow:
    """One method in the standings.

    Attributes:
        method: the method.
        placement: where it stands.
        order_correlations: by setting, Spearman's correlation of its scores with those of the control.
        criterion: mean criterion c over episodes.
        costs: None if no episode has any.
        results: by setting.
        d_prime_intervals: by setting, where there is a d'.
        badge: of all its records together.
    """

    method: Method
    placement: Placement
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
    """The methods of a track on targets of one kind.

    Attributes:
        track: the track.
        has_labels: whether the targets are labels of the backbone.
        settings: all settings, in their order.
        compared: the settings that the means are over.
        targets, seeds: how many different targets they have, and at most how many seeds of one.
        tests, pairs, detectable: see `attnbench.leaderboard.placement.Placements`.
        rows: from best to worst.
        front: the Pareto front of the compared methods.
        fronts: the Pareto front of each setting.
    """

    track: str
    has_labels: bool
    settings: tuple[Setting, ...]
    compared: tuple[Setting, ...]
    targets: int
    seeds: int
    tests: int
    pairs: int
    detectable: tuple[float, float] | None
    rows: tuple[StandingsRow, ...]
    front: tuple[ParetoMember, ...]
    fronts: Mapping[Setting, tuple[ParetoMember, ...]]

    @property
    def name(self) -> str:
        """The track, and the kind of targets if the backbone has no labels for them."""
        return self.track if self.has_labels else f"{self.track}, targets without a label"


def standings_of(
    records: Sequence[Record], badges: Mapping[Identity, Badge], orders: OrderCorrelations
) -> list[Standings]:
    """Return the standings of each track, of targets with a label and of those without.

    Shipped tracks come first, the largest at the top. The standings do not depend on the order of
    the records.

    Args:
        records: all records.
        badges: by record identity; a record without one is self-reported.
        orders: from `attnbench.leaderboard.order.order_correlations`.
    """
    by_track: dict[str, dict[Method, dict[Setting, list[Record]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for record in sorted(records, key=_order):
        identity = record.identity
        by_track[identity.track][method_of(record)][setting_of(identity)].append(record)
    own = sorted(by_track.keys() - set(TRACKS))
    return [
        standings
        for track in (*(track for track in reversed(TRACKS) if track in by_track), *own)
        for standings in _standings_of_track(track, by_track[track], badges, orders.get(track, {}))
    ]


def _standings_of_track(
    track: str,
    grouped: Mapping[Method, Mapping[Setting, Sequence[Record]]],
    badges: Mapping[Identity, Badge],
    orders: Mapping[Method, Mapping[Setting, float]],
) -> list[Standings]:
    results: dict[Method, dict[Setting, SettingResult]] = {
        method: {setting: pool_records(group) for setting, group in grouped[method].items()}
        for method in sorted(grouped)
    }
    has_labels: dict[Setting, bool] = {}
    for of_method in results.values():
        for setting, result in of_method.items():
            has_labels[setting] = has_labels.get(setting, True) and result.has_labels
    found = []
    for kind in (True, False):
        settings = tuple(s for s in sorted(has_labels) if has_labels[s] == kind)
        of_kind = {
            method: {s: result for s, result in of_method.items() if s in settings}
            for method, of_method in results.items()
        }
        of_kind = {method: of_method for method, of_method in of_kind.items() if of_method}
        if settings:
            found.append(_standings_of_kind(track, kind, settings, of_kind, badges, orders))
    return found


def _standings_of_kind(
    track: str,
    has_labels: bool,
    settings: tuple[Setting, ...],
    results: Mapping[Method, Mapping[Setting, SettingResult]],
    badges: Mapping[Identity, Badge],
    orders: Mapping[Method, Mapping[Setting, float]],
) -> Standings:
    methods = list(results)
    is_control = [method.submission == CONTROL for method in methods]
    control = _results_of_control(results)
    comparable = find_comparable(list(results.values()), control, settings)
    placed = Placements((Placement(),) * len(methods))
    if comparable is not None:
        placed = place_methods(comparable, is_control)
    rows = [
        _row(method, placement, results[method], badges, orders.get(method, {}))
        for method, placement in zip(methods, placed.placements, strict=True)
    ]
    points = [_point(row.method, row.costs) for row in rows]
    rows.sort(key=lambda row: (*row.placement.order, -len(row.d_prime_intervals), row.method))
    return Standings(
        track=track,
        has_labels=has_labels,
        settings=settings,
        compared=() if comparable is None else comparable.table.settings,
        targets=0 if comparable is None else comparable.targets,
        seeds=0 if comparable is None else comparable.seeds,
        tests=placed.tests,
        pairs=placed.pairs,
        detectable=placed.detectable,
        rows=tuple(rows),
        front=_front(comparable, points),
        fronts={
            setting: _front(
                find_comparable(list(results.values()), control, (setting,)),
                [
                    _point(method, summarise_costs(of_method[setting].records))
                    if setting in of_method
                    else None
                    for method, of_method in results.items()
                ],
            )
            for setting in settings
        },
    )


def _front(
    comparable: Comparable | None, points: Sequence[CostPoint | None]
) -> tuple[ParetoMember, ...]:
    """Return the Pareto front of the methods that are compared and have costs."""
    if comparable is None:
        return ()
    complete = [
        point for point, has_all in zip(points, comparable.complete, strict=True) if has_all
    ]
    with_costs = [number for number, point in enumerate(complete) if point is not None]
    d_prime, d_a = (comparable.by_target(name)[..., with_costs] for name in ("d_prime", "d_a"))
    return pareto_front([point for point in complete if point is not None], d_prime, d_a)


def _point(method: Method, costs: CostSummary | None) -> CostPoint | None:
    """Return a method's costs; None if it has no times."""
    if costs is None or costs.times.passes is None:
        return None
    return CostPoint(method, costs.parameters[1], costs.times.passes, costs.device)


def _results_of_control(
    results: Mapping[Method, Mapping[Setting, SettingResult]],
) -> dict[Setting, SettingResult]:
    """Return the control's results, from any device: d_a does not depend on it."""
    return {
        setting: result
        for method, of_method in results.items()
        if method.submission == CONTROL
        for setting, result in of_method.items()
        if result.status == "ok"
    }


def _row(
    method: Method,
    placement: Placement,
    results: Mapping[Setting, SettingResult],
    badges: Mapping[Identity, Badge],
    orders: Mapping[Setting, float],
) -> StandingsRow:
    records = [record for setting in sorted(results) for record in results[setting].records]
    return StandingsRow(
        method=method,
        placement=placement,
        order_correlations={s: value for s, value in orders.items() if s in results},
        criterion=mean_criterion(records),
        costs=summarise_costs(records),
        results=results,
        d_prime_intervals={
            setting: d_prime_interval(counts_by_target(result.episodes))
            for setting, result in sorted(results.items())
            if result.d_prime is not None
        },
        badge=summarise_badges(
            [badges.get(record.identity, "self-reported") for record in records]
        ),
    )


def _order(record: Record) -> tuple[str, ...]:
    """Return a sort key that depends on the record alone, so that any input order gives the same."""
    return record.identity.model_dump_json(), record.created, record.scores_sha256
