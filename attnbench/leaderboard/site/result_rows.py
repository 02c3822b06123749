"""The rows of the site's result tables: one per method and setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from attnbench.leaderboard.pooling import Method, Setting, SettingResult
from attnbench.leaderboard.site.rendering import file_name
from attnbench.leaderboard.standings import Standings, StandingsRow
from attnbench.records.summary import largest_other_numbers
from attnbench.statistics.intervals import Interval
from attnbench.vocabulary import Status


@dataclass(frozen=True)
class ResultRow:
    """A method in one setting, pooled over seeds. Measures are means over episodes.

    Attributes:
        method, setting, track: what was measured.
        page, task_page: URLs relative to the site's root.
        status, reason: those of the first record that is not ok; a failure comes first.
        targets, seeds: number of targets and of records.
        d_prime, criterion, d_a, auc, hit_rate, false_alarm_rate: None if a record is not ok.
        d_prime_interval: 95 % interval of d'.
        parameters_added, parameters_changed, other_numbers, artefact_bytes: the largest over
            episodes.
        adaptation_seconds, adaptation_passes, prediction_seconds: medians over the episodes that had
            the device to themselves; None if no episode had.
        device: the device that the times were measured on.
    """

    method: Method
    setting: Setting
    track: str
    page: str
    task_page: str
    status: Status
    reason: str
    targets: int
    seeds: int
    d_prime: float | None
    d_prime_interval: Interval | None
    criterion: float | None
    d_a: float | None
    auc: float | None
    hit_rate: float | None
    false_alarm_rate: float | None
    parameters_added: int | None
    parameters_changed: int | None
    other_numbers: int | None
    artefact_bytes: int | None
    adaptation_seconds: float | None
    adaptation_passes: float | None
    prediction_seconds: float | None
    device: str


def result_rows(boards: Sequence[Standings]) -> list[ResultRow]:
    """Return a row for every method and setting, in the order of the standings."""
    return [
        _row(standings.track, row, setting, result)
        for standings in boards
        for row in standings.rows
        for setting, result in sorted(row.results.items())
    ]


def method_path(method: Method) -> str:
    """Return the path of a submission version's page."""
    return f"methods/{file_name(method.submission, method.submission_sha256)}.html"


def task_path(track: str, setting: Setting) -> str:
    """Return the path of the page of a setting's task."""
    return f"tasks/{file_name(f'{track}-{setting.task}')}.html"


def _row(track: str, row: StandingsRow, setting: Setting, result: SettingResult) -> ResultRow:
    ok = result.d_prime is not None
    measures = [e.measures for e in result.episodes if e.measures is not None] if ok else []
    costs = [e.cost for e in result.episodes if e.cost is not None] if ok else []
    return ResultRow(
        method=row.method,
        setting=setting,
        track=track,
        page=method_path(row.method),
        task_page=task_path(track, setting),
        status=result.status,
        reason=result.reason,
        targets=result.targets,
        seeds=result.seeds,
        d_prime=result.d_prime,
        d_prime_interval=row.d_prime_intervals.get(setting),
        criterion=fmean(m.criterion for m in measures) if measures else None,
        d_a=result.d_a,
        auc=fmean(m.auc for m in measures) if measures else None,
        hit_rate=fmean(m.hit_rate for m in measures) if measures else None,
        false_alarm_rate=fmean(m.false_alarm_rate for m in measures) if measures else None,
        parameters_added=max((c.parameters_added for c in costs), default=None),
        parameters_changed=max((c.parameters_changed for c in costs), default=None),
        other_numbers=largest_other_numbers(costs),
        artefact_bytes=max((c.artefact_bytes for c in costs), default=None),
        adaptation_seconds=result.times.adaptation if ok else None,
        adaptation_passes=result.times.passes if ok else None,
        prediction_seconds=result.times.prediction if ok else None,
        device=result.device,
    )
