"""Who stands where on a track: from records to ranks and figures, whatever page shows them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attnbench.records.record import EpisodeResult, Identity, Record, Status
from attnbench.records.summary import Times, times_on_one_device
from attnbench.records.verification import Badge
from attnbench.statistics.comparison import mean_ranks, shared_ranks
from attnbench.statistics.detection import Counts
from attnbench.statistics.intervals import (
    d_prime_interval,
    interval,
    mean_interval,
    resampled_d_primes,
)

Floats = NDArray[np.float64]
Interval = tuple[float, float]
CONTROL = "bias_only"
_REPLICATES = 2000


@dataclass(frozen=True, order=True)
class Contest:
    """What is compared: one version of a task on one backbone. The hashes keep versions apart."""

    task: str
    backbone: str
    task_sha256: str
    backbone_sha256: str
    untrained: bool


@dataclass(frozen=True, order=True)
class Entrant:
    """Who is compared: one version of a submission, on processors (`cpu`) or GPUs (`cuda`)."""

    submission: str
    submission_sha256: str
    device: str


@dataclass(frozen=True)
class Cell:
    """An entrant's records of one contest, its seeds pooled.

    Attributes:
        status, reason: of the first that is not ok.
        episodes: all of them.
        d_prime: the mean over targets; None where a record is not ok.
        device, times: see `times_on_one_device`.
    """

    status: Status
    reason: str
    episodes: tuple[EpisodeResult, ...]
    targets: int
    seeds: int
    d_prime: float | None
    device: str
    times: Times


@dataclass(frozen=True)
class Costs:
    """What an entrant's episodes took, over all its contests.

    Attributes:
        device, times: see `times_on_one_device`.
        parameters: the smallest and the largest count, added and changed together.
        opaque: how many of these at most are not in tensors.
        declared: what its manifest declares, where that disagrees.
    """

    device: str
    times: Times
    parameters: tuple[int, int]
    opaque: int
    declared: tuple[int, ...]


@dataclass(frozen=True)
class Standing:
    """A row of the leaderboard.

    Attributes:
        rank: one more than the number of entrants that are surely better; a failure comes last, and
            who takes part in nothing has none.
        mean_rank: over contests, with its interval; None where there is a failure.
        d_prime: the mean over its contests, with its interval.
        above_control: d_a less that of `bias_only`, over the contests both have, with its interval.
        criterion: the mean c over episodes.
        cells: its contests; `intervals` of their d', where they have one.
        badge: of its records together.
    """

    entrant: Entrant
    rank: int | None
    mean_rank: float | None
    mean_rank_interval: Interval | None
    d_prime: float | None
    interval: Interval | None
    above_control: float | None
    above_control_interval: Interval | None
    criterion: float | None
    costs: Costs | None
    cells: Mapping[Contest, Cell]
    intervals: Mapping[Contest, Interval]
    badge: str

    @property
    def device(self) -> str:
        """The name of the device that its times are of; the kind of device where it has no costs."""
        return self.costs.device if self.costs else self.entrant.device


@dataclass(frozen=True)
class Standings:
    """A track's contests in their order, and its rows, best first."""

    contests: tuple[Contest, ...]
    rows: tuple[Standing, ...]


def standings_by_track(
    records: Sequence[Record], badges: Mapping[Identity, Badge]
) -> dict[str, Standings]:
    """The standings of each track that has records, the smallest track first."""
    found = {}
    for track in ("mini", "small", "full"):
        of_track = [record for record in records if record.identity.track == track]
        if of_track:
            found[track] = standings(of_track, badges)
    return found


def standings(records: Sequence[Record], badges: Mapping[Identity, Badge]) -> Standings:
    """The standings of one track's records, in whatever order they come.

    Entrants are compared on the same targets: the bootstrap draws these for all alike, and then images
    for each. Deterministic.
    """
    grouped: dict[Entrant, dict[Contest, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=_order):
        grouped[entrant_of(record)][contest_of(record.identity)].append(record)
    entrants = sorted(grouped)
    contests = sorted({contest for each in grouped.values() for contest in each})
    cells = {who: {what: _cell(each) for what, each in grouped[who].items()} for who in entrants}
    drawn = {what: _resampled(what, entrants, cells) for what in contests}
    estimates = np.array([[_or_nan(cells[who].get(what)) for who in entrants] for what in contests])
    covariances = np.array([np.atleast_2d(np.cov(drawn[what].T)) for what in contests])
    by_target = [_by_target(what, entrants, cells) for what in contests]
    ranks = shared_ranks(estimates, covariances, by_target)
    failed = [any(cell.status == "failed" for cell in cells[who].values()) for who in entrants]
    observed_ranks, drawn_ranks = _mean_ranks(estimates, np.array([drawn[c] for c in contests]))
    controls = _controls(entrants, cells)
    last = 1 + len(entrants) - sum(failed)
    rows = []
    for number, who in enumerate(entrants):
        own = [c for c in contests if (cell := cells[who].get(c)) and cell.d_prime is not None]
        whole = bool(own) and not failed[number]
        counts = {c: _counts(cells[who][c].episodes) for c in own}
        above = _above_control(cells[who], controls)
        all_records = [record for each in grouped[who].values() for record in each]
        rows.append(
            Standing(
                entrant=who,
                rank=ranks[number] if whole else last if failed[number] else None,
                mean_rank=float(observed_ranks[number]) if whole else None,
                mean_rank_interval=interval(drawn_ranks[:, number]) if whole else None,
                d_prime=fmean(_or_nan(cells[who][c]) for c in own) if whole else None,
                interval=d_prime_interval(*counts.values()) if whole else None,
                above_control=None if above is None else above[0],
                above_control_interval=None if above is None else above[1],
                criterion=_criterion(all_records),
                costs=_costs(all_records),
                cells=cells[who],
                intervals={c: d_prime_interval(each) for c, each in counts.items()},
                badge=_badge([badges.get(r.identity, "self-reported") for r in all_records]),
            )
        )
    rows.sort(
        key=lambda row: (
            row.rank or np.inf,
            -len(row.intervals),  # a mean rank of fewer contests says less
            row.mean_rank or np.inf,
            row.entrant,
        )
    )
    return Standings(tuple(contests), tuple(rows))


def _order(record: Record) -> tuple[str, ...]:
    return record.identity.model_dump_json(), record.created, record.scores_sha256


def entrant_of(record: Record) -> Entrant:
    """Whose record this is."""
    who = record.identity
    return Entrant(who.submission, who.submission_sha256, who.device)


def contest_of(who: Identity) -> Contest:
    """What it is compared on."""
    return Contest(who.task, who.backbone, who.task_sha256, who.backbone_sha256, who.untrained)


def _cell(records: Sequence[Record]) -> Cell:
    bad = sorted(
        (record for record in records if record.status != "ok"),
        key=lambda record: (record.status != "failed", record.identity.seed),
    )
    episodes = tuple(episode for record in records for episode in record.episodes)
    times = times_on_one_device(records)
    return Cell(
        status=bad[0].status if bad else "ok",
        reason=bad[0].reason if bad else "",
        episodes=episodes,
        targets=max(len(record.episodes) for record in records),
        seeds=len(records),
        d_prime=None
        if bad
        else fmean(e.measures.d_prime for e in episodes if e.measures is not None),
        device=times[0],
        times=times[1],
    )


def _counts(episodes: Sequence[EpisodeResult]) -> list[list[Counts]]:
    """For each target, in the order of their names, one for each seed."""
    by_target: dict[str, list[Counts]] = defaultdict(list)
    for episode in episodes:
        if episode.measures is not None:
            by_target[episode.target].append(episode.measures.counts)
    return [by_target[target] for target in sorted(by_target)]


def _resampled(
    what: Contest, entrants: Sequence[Entrant], cells: Mapping[Entrant, Mapping[Contest, Cell]]
) -> Floats:
    """Replicates of d' of every entrant, `[r, m]`: the same targets for all; 0 for who has none."""

    def replicates(number: int) -> Floats | float:
        cell = cells[entrants[number]].get(what)
        if cell is None or cell.d_prime is None:
            return 0.0
        counts = _counts(cell.episodes)
        targets = np.random.default_rng(0).integers(0, len(counts), (_REPLICATES, len(counts)))
        return resampled_d_primes(counts, targets, np.random.default_rng([1, number]))

    found = np.empty((_REPLICATES, len(entrants)))
    for number in range(len(entrants)):
        found[:, number] = replicates(number)
    return found


def _by_target(
    what: Contest, entrants: Sequence[Entrant], cells: Mapping[Entrant, Mapping[Contest, Cell]]
) -> Floats:
    """d' of every entrant on each target, `[n, m]`, NaN for who has none of it."""
    found = [
        _mean_by_target(cell, "d_prime") if cell and cell.d_prime is not None else {}
        for cell in (cells[who].get(what) for who in entrants)
    ]
    targets = sorted(set().union(*found))
    values = [each.get(target, np.nan) for target in targets for each in found]
    return np.array(values).reshape(len(targets), len(entrants))


def _or_nan(cell: Cell | None) -> float:
    return float("nan") if cell is None or cell.d_prime is None else cell.d_prime


def _mean_ranks(estimates: Floats, drawn: Floats) -> tuple[Floats, Floats]:
    """Mean ranks over the contests that each has, `[m]` and `[r, m]`; others do not count in these."""
    missing = np.isnan(estimates)
    found = []
    for values in (estimates, drawn):
        absent = missing if values.ndim == 2 else np.broadcast_to(missing[:, None], values.shape)
        each = np.stack([mean_ranks([v]) for v in np.where(absent, -np.inf, values)])
        found.append(np.ma.masked_array(each, absent).mean(axis=0).filled(np.nan))
    return found[0], found[1]


def _controls(
    entrants: Sequence[Entrant], cells: Mapping[Entrant, Mapping[Contest, Cell]]
) -> dict[Contest, Cell]:
    """`bias_only`'s cells; d_a does not depend on the device."""
    return {
        what: cell
        for who in entrants
        if who.submission == CONTROL
        for what, cell in cells[who].items()
        if cell.d_prime is not None
    }


def _above_control(
    own: Mapping[Contest, Cell], controls: Mapping[Contest, Cell]
) -> tuple[float, Interval] | None:
    """d_a less the control's, paired by target: the mean over contests, and its interval."""
    found = []
    for what, control in controls.items():
        cell = own.get(what)
        if cell is None or cell.d_prime is None:
            continue
        first, second = _mean_by_target(cell, "d_a"), _mean_by_target(control, "d_a")
        targets = sorted(first.keys() & second.keys())
        if targets:
            found.append(np.array([first[target] - second[target] for target in targets]))
    if not found:
        return None
    return float(np.mean([each.mean() for each in found])), mean_interval(found)


def _mean_by_target(cell: Cell, figure: Literal["d_prime", "d_a"]) -> dict[str, float]:
    """A figure of each target, the mean over its seeds."""
    by_target: dict[str, list[float]] = defaultdict(list)
    for episode in cell.episodes:
        if episode.measures is not None:
            by_target[episode.target].append(getattr(episode.measures, figure))
    return {target: fmean(values) for target, values in by_target.items()}


def _criterion(records: Sequence[Record]) -> float | None:
    found = [e.measures.criterion for r in records for e in r.episodes if e.measures is not None]
    return fmean(found) if found else None


def _costs(records: Sequence[Record]) -> Costs | None:
    costs = [e.cost for record in records for e in record.episodes if e.cost is not None]
    if not costs:
        return None
    counts = [cost.parameters_added + cost.parameters_changed for cost in costs]
    declared = {record.declared_parameters for record in records} - {None}
    device, times = times_on_one_device(records)
    return Costs(
        device=device,
        times=times,
        parameters=(min(counts), max(counts)),
        opaque=max(cost.parameters_opaque for cost in costs),
        declared=tuple(sorted(n for n in declared if n is not None and n not in counts)),
    )


def _badge(badges: Sequence[Badge]) -> str:
    """One failure taints all records of a row; otherwise how many of them were run again."""
    verified = badges.count("verified")
    if "failed verification" in badges:
        return "failed verification"
    if verified in (0, len(badges)):
        return badges[0]
    return f"{verified} of {len(badges)} verified"
