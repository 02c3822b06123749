"""`attnbench.evaluate`: from submissions and tasks to records, and to a row for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import pandas as pd

from attnbench.engines.local import Finished, Job, run_jobs
from attnbench.evaluation.environment import describe_environment
from attnbench.evaluation.evaluator import Evaluator
from attnbench.evaluation.isolation import Isolation
from attnbench.evaluation.isolation.confinement import limits_for
from attnbench.evaluation.summary import overall, summarise
from attnbench.evaluation.warm import Template
from attnbench.planning import Plan, make_plans
from attnbench.records.record import EpisodeResult, Identity, Record
from attnbench.records.rows import COLUMNS, row_of
from attnbench.records.store import RecordStore

# So many targets of a record are adapted to once more in a process without a rehearsal. What a cold
# process costs depends on the process, hardly on the target, and each costs another adaptation.
_COLD_TARGETS = 1


@dataclass(frozen=True)
class Planned:
    """How many episodes are still to run, and the records that were there already."""

    episodes: int
    reused: tuple[Path, ...]


@dataclass(frozen=True)
class EpisodeStarted:
    """The images of an episode are being prepared; decoding or filtering them may take a while."""

    submission: str
    task: str
    target: str


@dataclass(frozen=True)
class EpisodeDone:
    """One episode has ended; `done` of `total` so far."""

    submission: str
    task: str
    target: str
    status: str
    reason: str
    done: int
    total: int


@dataclass(frozen=True)
class RecordWritten:
    """A record is complete and on disk."""

    path: Path


Event = Planned | EpisodeStarted | EpisodeDone | RecordWritten


def evaluate(
    submissions: Sequence[str | Path],
    *,
    track: str = "mini",
    tasks: Sequence[str] | None = None,
    backbone: str | None = None,
    device: str = "cpu",
    seeds: int = 1,
    isolation: Isolation = "process",
    timeout: float | None = None,
    fresh: bool = False,
    data: Path | None = None,
    records: Path = Path("records"),
    untrained: bool = False,
    on_event: Callable[[Event], None] | None = None,
) -> pd.DataFrame:
    """Run submissions on tasks, write a record for each, and return a row for each.

    Args:
        submissions: folders, or names of shipped submissions.
        track: `mini`, `small` or `full`.
        tasks: names of tasks; by default every task that has this track.
        backbone: one backbone in place of the track's own.
        device: `cpu` or `cuda`.
        seeds: how many seeds, counted from 0.
        isolation: `process` or `bwrap`, see docs/trust.md.
        timeout: seconds for one adaptation; by default the track's.
        fresh: run again what is already in `records`.
        data: a folder whose sub-folders stand in for hub datasets.
        records: where records are kept.
        untrained: use the backbones' untrained weights (for counting and timing).
        on_event: told what happens while it happens.

    Returns:
        A row per submission x task x track x backbone x seed with the columns of
        `attnbench.records.rows.COLUMNS`.

    Raises:
        AttnbenchError: for what cannot be run at all. A submission's failure is a row, no exception.
    """
    tell = on_event or (lambda event: None)
    plans = make_plans(
        submissions,
        track=track,
        tasks=tasks,
        backbone=backbone,
        device=device,
        seeds=seeds,
        isolation=isolation,
        timeout=timeout,
        data=data,
        untrained=untrained,
    )
    store = RecordStore(records)
    found: dict[Identity, tuple[Path, Record]] = {}
    if not fresh:
        kept = ((plan.identity, store.find(plan.identity)) for plan in plans)
        found = {identity: record for identity, record in kept if record is not None}
    to_run = [
        (plan, list(_missing(store, plan, fresh))) for plan in plans if plan.identity not in found
    ]
    total = sum(len(jobs) for _, jobs in to_run)
    tell(Planned(total, tuple(path for path, _ in found.values())))
    done = 0
    confinement: tuple[str, ...] = ()
    for plan, finished in _run(to_run, data, records, tell):
        if finished is not None:
            confinement = finished.confinement
            store.partial(plan.identity).add(finished.result, finished.scores)
            done += 1
            tell(_episode_done(plan, finished.result, done, total))
        else:
            path = _complete(store, plan, confinement)
            found[plan.identity] = path, store.read(path)
            tell(RecordWritten(path))
    rows = [row_of(record, path) for path, record in (found[plan.identity] for plan in plans)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _missing(store: RecordStore, plan: Plan, fresh: bool) -> Iterator[Job]:
    partial = store.partial(plan.identity)
    if fresh:
        partial.discard()
    finished = partial.finished()
    for number, target in enumerate(plan.stimuli.targets):
        if target not in finished:
            seed, cold = plan.identity.seed, number < _COLD_TARGETS
            yield Job(plan.submission, plan.stimuli, target, seed, plan.timeout, cold)


def _run(
    to_run: Iterable[tuple[Plan, list[Job]]],
    data: Path | None,
    records: Path,
    tell: Callable[[Event], None],
) -> Iterator[tuple[Plan, Finished | None]]:
    """Each plan with each of its episodes as it ends, and with None when it has no more."""
    to_run = list(to_run)
    if not any(jobs for _, jobs in to_run):
        yield from ((plan, None) for plan, _ in to_run)
        return
    hidden = [records] if data is None else [records, data]
    limits = limits_for(3 * max(plan.timeout for plan, _ in to_run))
    isolation = to_run[0][0].identity.isolation
    with Template(isolation, hidden=hidden, data=data, limits=limits) as template:
        for _, group in groupby(to_run, key=lambda each: each[0].identity.backbone):
            pairs = list(group)
            first = pairs[0][0]
            evaluator = Evaluator(
                first.backbone,
                template,
                device=first.identity.device,
                untrained=first.identity.untrained,
            )
            for plan, jobs in pairs:
                for finished in run_jobs(evaluator, _announced(plan, jobs, tell)):
                    yield plan, finished
                yield plan, None


def _announced(plan: Plan, jobs: Iterable[Job], tell: Callable[[Event], None]) -> Iterator[Job]:
    for job in jobs:
        tell(EpisodeStarted(plan.identity.submission, plan.identity.task, job.target))
        yield job


def _episode_done(plan: Plan, result: EpisodeResult, done: int, total: int) -> EpisodeDone:
    return EpisodeDone(
        submission=plan.identity.submission,
        task=plan.identity.task,
        target=result.target,
        status=result.status,
        reason=result.reason,
        done=done,
        total=total,
    )


def _complete(store: RecordStore, plan: Plan, confinement: tuple[str, ...]) -> Path:
    """Put the episodes together into a record and write it."""
    partial = store.partial(plan.identity)
    finished = partial.finished()
    results: list[EpisodeResult] = [finished[target][0] for target in plan.stimuli.targets]
    status, reason = overall(results)
    record = Record(
        identity=plan.identity,
        title=plan.submission.manifest.title,
        declared_parameters=plan.submission.declared_for(plan.identity.backbone),
        environment=describe_environment(plan.identity.device, confinement),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        status=status,
        reason=reason,
        summary=summarise(results),
        episodes=tuple(results),
        scores_file="",
        scores_sha256="0" * 64,
    )
    scores = pd.concat([finished[target][1] for target in plan.stimuli.targets])
    path = store.save(record, scores)
    partial.discard()
    return path
