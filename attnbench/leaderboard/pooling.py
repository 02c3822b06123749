"""Records pooled over seeds: one result per method and setting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from attnbench.records.record import EpisodeResult, Identity, Record
from attnbench.records.summary import Times, largest_other_numbers, times_on_one_device
from attnbench.statistics.measures import Counts
from attnbench.vocabulary import Badge, Status


@dataclass(frozen=True, order=True)
class Setting:
    """What methods are compared on: one version of a task on one backbone.

    The hashes keep versions of the task and of the backbone's weights apart.
    """

    task: str
    backbone: str
    task_sha256: str
    backbone_sha256: str
    untrained: bool


@dataclass(frozen=True, order=True)
class Method:
    """What is compared: one version of a submission on one kind of device, `cpu` or `cuda`."""

    submission: str
    submission_sha256: str
    device: str


@dataclass(frozen=True)
class SettingResult:
    """A method's records in one setting, pooled over seeds.

    Attributes:
        records: at least one.
        status, reason: those of the first record that is not ok; a failure comes first.
        targets: the largest number of targets in a record.
        seeds: number of records.
        d_prime, d_a: means over episodes, in z units; None if a record is not ok.
        device, times: see `attnbench.records.summary.times_on_one_device`.
    """

    records: tuple[Record, ...]
    status: Status
    reason: str
    targets: int
    seeds: int
    d_prime: float | None
    d_a: float | None
    device: str
    times: Times

    @property
    def episodes(self) -> tuple[EpisodeResult, ...]:
        """The episodes of all records."""
        return tuple(episode for record in self.records for episode in record.episodes)

    @property
    def has_labels(self) -> bool:
        """Whether the targets are labels of the backbone. Older records do not say: they count so."""
        return all(episode.has_label is not False for episode in self.episodes)


@dataclass(frozen=True)
class CostSummary:
    """The costs of a method's episodes over all its settings.

    Attributes:
        device, times: see `attnbench.records.summary.times_on_one_device`.
        parameters: the smallest and the largest count, added and changed together.
        other_numbers: the largest number of numbers outside tensors; None if no record reports it.
        declared: the declared numbers of parameters that match no measured count.
    """

    device: str
    times: Times
    parameters: tuple[int, int]
    other_numbers: int | None
    declared: tuple[int, ...]


def method_of(record: Record) -> Method:
    """Return the method that a record is of."""
    identity = record.identity
    return Method(identity.submission, identity.submission_sha256, identity.device)


def setting_of(identity: Identity) -> Setting:
    """Return the setting that a record with this identity belongs to."""
    return Setting(
        identity.task,
        identity.backbone,
        identity.task_sha256,
        identity.backbone_sha256,
        identity.untrained,
    )


def pool_records(records: Sequence[Record]) -> SettingResult:
    """Pool a method's records in one setting; there is at least one."""
    not_ok = sorted(
        (record for record in records if record.status != "ok"),
        key=lambda record: (record.status != "failed", record.identity.seed),
    )
    measures = [e.measures for r in records for e in r.episodes if e.measures is not None]
    device, times = times_on_one_device(records)
    return SettingResult(
        records=tuple(records),
        status=not_ok[0].status if not_ok else "ok",
        reason=not_ok[0].reason if not_ok else "",
        targets=max(len(record.episodes) for record in records),
        seeds=len(records),
        d_prime=None if not_ok else fmean(m.d_prime for m in measures),
        d_a=None if not_ok else fmean(m.d_a for m in measures),
        device=device,
        times=times,
    )


def counts_by_target(episodes: Sequence[EpisodeResult]) -> list[list[Counts]]:
    """Return each target's counts, one per seed, ordered by target name."""
    by_target: dict[str, list[Counts]] = defaultdict(list)
    for episode in episodes:
        if episode.measures is not None:
            by_target[episode.target].append(episode.measures.counts)
    return [by_target[target] for target in sorted(by_target)]


def mean_criterion(records: Sequence[Record]) -> float | None:
    """Return the mean criterion c over all episodes with scores; None if there are none."""
    criteria = [e.measures.criterion for r in records for e in r.episodes if e.measures is not None]
    return fmean(criteria) if criteria else None


def summarise_costs(records: Sequence[Record]) -> CostSummary | None:
    """Summarise the costs of a method's records; None if no episode has any."""
    costs = [e.cost for record in records for e in record.episodes if e.cost is not None]
    if not costs:
        return None
    counts = [cost.parameters_added + cost.parameters_changed for cost in costs]
    declared = {record.declared_parameters for record in records} - {None}
    device, times = times_on_one_device(records)
    return CostSummary(
        device=device,
        times=times,
        parameters=(min(counts), max(counts)),
        other_numbers=largest_other_numbers(costs),
        declared=tuple(sorted(n for n in declared if n is not None and n not in counts)),
    )


def summarise_badges(badges: Sequence[Badge]) -> str:
    """Return one badge for several records.

    One record that failed verification fails all of them. Otherwise a mixture says how many records
    were better on public seeds, or else how many were verified and how many audited.
    """
    if "failed verification" in badges:
        return "failed verification"
    better = badges.count("better on public seeds")
    both = badges.count("verified and audited")
    counts = {
        "verified": badges.count("verified") + both,
        "audited": badges.count("audited") + both,
    }
    if better:
        counts = {"better on public seeds": better}
    total = len(badges)
    if all(count in (0, total) for count in counts.values()):
        return badges[0]
    return ", ".join(
        word if count == total else f"{count} of {total} {word}"
        for word, count in counts.items()
        if count
    )
