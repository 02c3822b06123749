"""From plans to records: what is there is kept, what is missing is run and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import pandas as pd

from attnbench.engines.local import Job, run_jobs
from attnbench.evaluation.environment import describe_environment
from attnbench.evaluation.evaluator import Evaluator
from attnbench.evaluation.warm import Template
from attnbench.events import EpisodeDone, EpisodeStarted, Event, Planned, RecordWritten
from attnbench.planning import Plan
from attnbench.records.record import EpisodeResult, Identity, Record
from attnbench.records.rows import row_of
from attnbench.records.store import RecordStore
from attnbench.records.summary import overall, summarise

# So many targets of a record are adapted to once more in a process without a rehearsal. What a cold
# process costs depends on the process, hardly on the target, and each costs another adaptation.
_COLD_TARGETS = 1


def make_records(
    plans: Sequence[Plan],
    template: Template,
    folder: Path,
    *,
    fresh: bool,
    tell: Callable[[Event], None],
) -> list[dict[str, object]]:
    """Make the records that are not there yet; a row for each plan, see `attnbench.records.rows`.

    Args:
        plans: the records to make, those of one backbone together.
        template: starts the workers.
        folder: where records are kept.
        fresh: make again those that are there.
        tell: told what happens while it happens.
    """
    store = RecordStore(folder)
    if fresh:
        for plan in plans:
            store.partial(plan.identity).discard()
    found = {} if fresh else _found(store, plans)
    total = sum(len(_missing(store, plan)) for plan in plans if plan.identity not in found)
    tell(Planned(total, tuple(path for path, _ in found.values())))
    progress = _Progress(total, tell)
    for _, group in groupby(plans, key=lambda plan: plan.identity.backbone):
        evaluator: Evaluator | None = None
        for plan in group:
            if plan.identity in found:
                continue
            # Another run of the same thing may be making it: then this one waits, and takes that.
            with store.claim(plan.identity):
                if not fresh and (made := store.find(plan.identity)):
                    found[plan.identity] = made
                    continue
                missing = _missing(store, plan)
                if missing and evaluator is None:
                    evaluator = _evaluator(plan, template)
                confinement = _run(evaluator, store, plan, missing, progress) if evaluator else ()
                path = _complete(store, plan, confinement)
            found[plan.identity] = path, store.read(path)
            tell(RecordWritten(path))
    return [row_of(record, path) for path, record in (found[plan.identity] for plan in plans)]


@dataclass
class _Progress:
    total: int
    tell: Callable[[Event], None]
    done: int = 0

    def ended(self, plan: Plan, result: EpisodeResult) -> None:
        self.done += 1
        self.tell(
            EpisodeDone(
                submission=plan.identity.submission,
                task=plan.identity.task,
                target=result.target,
                status=result.status,
                reason=result.reason,
                done=self.done,
                total=self.total,
            )
        )


def _found(store: RecordStore, plans: Iterable[Plan]) -> dict[Identity, tuple[Path, Record]]:
    kept = ((plan.identity, store.find(plan.identity)) for plan in plans)
    return {identity: record for identity, record in kept if record is not None}


def _missing(store: RecordStore, plan: Plan) -> list[Job]:
    finished = store.partial(plan.identity).finished()
    return [
        Job(
            plan.submission,
            plan.stimuli,
            target,
            plan.identity.seed,
            plan.timeout,
            cold=number < _COLD_TARGETS,
        )
        for number, target in enumerate(plan.stimuli.targets)
        if target not in finished
    ]


def _evaluator(plan: Plan, template: Template) -> Evaluator:
    identity = plan.identity
    return Evaluator(plan.backbone, template, device=identity.device, untrained=identity.untrained)


def _run(
    evaluator: Evaluator, store: RecordStore, plan: Plan, jobs: Iterable[Job], progress: _Progress
) -> tuple[str, ...]:
    """Judge the episodes and keep each as it ends; what confined the workers."""
    confinement: tuple[str, ...] = ()
    for finished in run_jobs(evaluator, _announced(plan, jobs, progress.tell)):
        store.partial(plan.identity).add(finished.result, finished.scores)
        progress.ended(plan, finished.result)
        confinement = finished.confinement
    return confinement


def _announced(plan: Plan, jobs: Iterable[Job], tell: Callable[[Event], None]) -> Iterator[Job]:
    for job in jobs:
        tell(EpisodeStarted(plan.identity.submission, plan.identity.task, job.target))
        yield job


def _complete(store: RecordStore, plan: Plan, confinement: tuple[str, ...]) -> Path:
    """Put the episodes together into a record and write it."""
    finished = store.partial(plan.identity).finished()
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
    return store.save(record, scores)
