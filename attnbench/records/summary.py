"""From a record's episodes to its figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from attnbench.records.record import Cost, EpisodeResult, Record, Status, Summary
from attnbench.statistics.intervals import d_prime_interval, median_interval


@dataclass(frozen=True)
class Times:
    """Medians over the episodes that had the device to themselves, in seconds; None where none had.

    Attributes:
        cold: of the episodes that have such a time.
        passes: adaptation in multiples of the backbone's forward pass.
    """

    adaptation: float | None
    cold: float | None
    passes: float | None
    prediction: float | None


def times_of(costs: Sequence[Cost]) -> Times:
    """The times by which methods are compared; what ran beside others may have taken longer."""
    alone = [cost for cost in costs if not cost.contended]
    cold = [s for cost in alone if (s := cost.adaptation_seconds_cold) is not None]
    return Times(
        adaptation=_median([cost.adaptation_seconds for cost in alone]),
        cold=_median(cold),
        passes=_median([cost.adaptation_seconds / cost.pass_seconds for cost in alone]),
        prediction=_median([cost.prediction_seconds for cost in alone]),
    )


def times_on_one_device(records: Sequence[Record]) -> tuple[str, Times]:
    """The name of the device that most episodes had to themselves, and the times on it.

    Records of several machines say the same of a method, but for its times. Where no episode had a
    device to itself the name is the devices' kind, `cpu` or `cuda`.

    Args:
        records: at least one, all of one kind of device.
    """
    alone = [
        (record.environment.device_name, episode.cost)
        for record in records
        for episode in record.episodes
        if episode.cost is not None and not episode.cost.contended
    ]
    if not alone:
        return records[0].identity.device, times_of([])
    counts = Counter(device for device, _ in alone)
    chosen = min(counts, key=lambda device: (-counts[device], device))
    return chosen, times_of([cost for device, cost in alone if device == chosen])


def overall(results: Sequence[EpisodeResult]) -> tuple[Status, str]:
    """The record's status and reason: one failed episode makes it a failure, and says so."""
    for status in ("failed", "not applicable"):
        such = [result for result in results if result.status == status]
        if such:
            reason = such[0].reason
            if len(such) < len(results) or len({result.reason for result in such}) > 1:
                reason = f"{len(such)} of {len(results)} targets, first {such[0].target}: {reason}"
            return status, reason[:1000]
    return "ok", ""


def summarise(results: Sequence[EpisodeResult]) -> Summary:
    """Means over targets, medians of times and counts; empty where not every episode is ok.

    A mean over the targets that happened to succeed would flatter the method, so there is none.
    """
    found = without_intervals(results)
    return found.model_copy(update=intervals(results)) if found.d_prime is not None else found


def without_intervals(results: Sequence[EpisodeResult]) -> Summary:
    """The same but for `intervals`, which take a hundred times as long."""
    measures = [result.measures for result in results if result.measures is not None]
    costs = [result.cost for result in results if result.cost is not None]
    if not results or len(measures) < len(results) or len(costs) < len(results):
        return Summary(targets=len(results))
    times = times_of(costs)
    return Summary(
        targets=len(results),
        d_prime=fmean(m.d_prime for m in measures),
        criterion=fmean(m.criterion for m in measures),
        d_a=fmean(m.d_a for m in measures),
        auc=fmean(m.auc for m in measures),
        hit_rate=fmean(m.hit_rate for m in measures),
        false_alarm_rate=fmean(m.false_alarm_rate for m in measures),
        parameters_added=max(cost.parameters_added for cost in costs),
        parameters_changed=max(cost.parameters_changed for cost in costs),
        artefact_bytes=max(cost.artefact_bytes for cost in costs),
        adaptation_seconds=times.adaptation,
        adaptation_seconds_cold=times.cold,
        adaptation_passes=times.passes,
        prediction_seconds=times.prediction,
        contended=sum(cost.contended for cost in costs),
    )


def intervals(results: Sequence[EpisodeResult]) -> dict[str, float]:
    """The 95 % intervals of a summary, of episodes that are all ok."""
    counts = [[result.measures.counts] for result in results if result.measures is not None]
    costs = [result.cost for result in results if result.cost is not None]
    times = [cost.adaptation_seconds for cost in costs if not cost.contended]
    low, high = d_prime_interval(counts)
    found = {"d_prime_low": low, "d_prime_high": high}
    if times:
        _, fastest, slowest = median_interval(times)
        found |= {"adaptation_seconds_low": fastest, "adaptation_seconds_high": slowest}
    return found


def _median(values: Sequence[float]) -> float | None:
    return float(median(values)) if values else None
