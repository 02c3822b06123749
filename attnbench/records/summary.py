"""Summarising the episodes of a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from attnbench.records.record import Cost, EpisodeResult, Record, Summary
from attnbench.statistics.detection import d_prime, pool
from attnbench.statistics.intervals import d_prime_interval, median_interval
from attnbench.vocabulary import Status


@dataclass(frozen=True)
class Times:
    """Median times over uncontended episodes, in seconds. None if there are none.

    Attributes:
        adaptation: the time of adapting.
        cold: the time of adapting in a cold process, over the episodes that have such a time.
        passes: the time of adapting, as a multiple of the backbone's forward pass.
        prediction: the time of scoring all test images.
    """

    adaptation: float | None
    cold: float | None
    passes: float | None
    prediction: float | None


def times_of(costs: Sequence[Cost]) -> Times:
    """Return the times by which methods are compared.

    Contended times are left out, because they may be too long.

    Args:
        costs: the costs of episodes.
    """
    alone = [cost for cost in costs if not cost.contended]
    cold = [s for cost in alone if (s := cost.adaptation_seconds_cold) is not None]
    return Times(
        adaptation=_median([cost.adaptation_seconds for cost in alone]),
        cold=_median(cold),
        passes=_median([cost.adaptation_seconds / cost.pass_seconds for cost in alone]),
        prediction=_median([cost.prediction_seconds for cost in alone]),
    )


def times_on_one_device(records: Sequence[Record]) -> tuple[str, Times]:
    """Return the device with the most uncontended episodes, and the times on it.

    Records from several machines agree about a method in everything but its times. If all episodes
    are contended, the device's name is its kind, `cpu` or `cuda`.

    Args:
        records: at least one, all of the same kind of device.
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


def overall(results: Sequence[EpisodeResult], not_run: int = 0) -> tuple[Status, str]:
    """Return a record's status and reason. One failed episode makes the record a failure.

    Args:
        results: the results of the record's episodes.
        not_run: how many targets were left out, because the first two failed in the same way.
    """
    if not_run:
        targets = len(results) + not_run
        reason = f"stopped after the same failure on the first 2 of {targets} targets"
        return "failed", f"{reason}: {results[0].reason}"[:1000]
    statuses: tuple[Status, ...] = ("failed", "not applicable")
    for status in statuses:
        matching = [result for result in results if result.status == status]
        if matching:
            reason = matching[0].reason
            if len(matching) < len(results) or len({result.reason for result in matching}) > 1:
                count = f"{len(matching)} of {len(results)} targets"
                reason = f"{count}, first {matching[0].target}: {reason}"
            return status, reason[:1000]
    return "ok", ""


def summarise(results: Sequence[EpisodeResult]) -> Summary:
    """Return means over targets and medians of times, or an empty summary if an episode is not ok.

    A mean over the targets that happened to succeed would flatter the method.
    """
    summary = summarise_without_intervals(results)
    if summary.d_prime is None:
        return summary
    return summary.model_copy(update=summary_intervals(results))


def summarise_without_intervals(results: Sequence[EpisodeResult]) -> Summary:
    """As `summarise`, without the intervals, which take a hundred times as long to compute."""
    measures = [result.measures for result in results if result.measures is not None]
    costs = [result.cost for result in results if result.cost is not None]
    if not results or len(measures) < len(results) or len(costs) < len(results):
        return Summary(targets=len(results))
    times = times_of(costs)
    return Summary(
        targets=len(results),
        d_prime=fmean(m.d_prime for m in measures),
        d_prime_pooled=d_prime(pool([m.counts for m in measures])),
        criterion=fmean(m.criterion for m in measures),
        d_a=fmean(m.d_a for m in measures),
        auc=fmean(m.auc for m in measures),
        hit_rate=fmean(m.hit_rate for m in measures),
        false_alarm_rate=fmean(m.false_alarm_rate for m in measures),
        parameters_added=max(cost.parameters_added for cost in costs),
        parameters_changed=max(cost.parameters_changed for cost in costs),
        other_numbers=largest_other_numbers(costs),
        artefact_bytes=max(cost.artefact_bytes for cost in costs),
        peak_memory_bytes=_largest(cost.peak_memory_bytes for cost in costs),
        adaptation_seconds=times.adaptation,
        adaptation_seconds_cold=times.cold,
        adaptation_passes=times.passes,
        prediction_seconds=times.prediction,
        precision=tuple(sorted({name for result in results for name in result.precision})),
        contended=sum(cost.contended for cost in costs),
    )


def summary_intervals(results: Sequence[EpisodeResult]) -> dict[str, float]:
    """Return the 95 % confidence intervals of a summary, by field.

    Args:
        results: the results of a record's episodes, all of which must be ok.
    """
    counts = [[result.measures.counts] for result in results if result.measures is not None]
    costs = [result.cost for result in results if result.cost is not None]
    times = [cost.adaptation_seconds for cost in costs if not cost.contended]
    low, high = d_prime_interval(counts)
    ends = {"d_prime_low": low, "d_prime_high": high}
    if times:
        _, fastest, slowest = median_interval(times)
        ends |= {"adaptation_seconds_low": fastest, "adaptation_seconds_high": slowest}
    return ends


def largest_other_numbers(costs: Sequence[Cost]) -> int | None:
    """Return the largest `Cost.other_numbers`; None if no cost has it.

    Args:
        costs: the costs of episodes.
    """
    return _largest(cost.other_numbers for cost in costs)


def _largest(counts: Iterable[int | None]) -> int | None:
    return max((count for count in counts if count is not None), default=None)


def _median(values: Sequence[float]) -> float | None:
    return float(median(values)) if values else None
