"""From plans to records: complete records are kept, missing episodes are run and written."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Self

import pyarrow as pa

from attnbench.engines.engine import CompletedJob, Job, RunJobs, UnusableImages
from attnbench.errors import AttnbenchError
from attnbench.records.environments import merge_environments
from attnbench.records.outcome import EpisodeOutcome
from attnbench.records.record import (
    EpisodeResult,
    Identity,
    Record,
    failed_alike,
)
from attnbench.records.rows import row_of, row_of_summary
from attnbench.records.store import RecordStore
from attnbench.records.summary import overall, summarise
from attnbench.runs.events import EpisodeStarted, Event, Noted, RecordWritten
from attnbench.runs.existing_records import ExistingRecords
from attnbench.runs.planning import Plan, make_job, sharing_adaptation
from attnbench.runs.progress import Progress

# How many targets of a record are also adapted to in a cold process, that is without a rehearsal.
# The extra time of a cold process hardly depends on the target, and measuring it takes an adaptation.
_COLD_TARGETS = 1
_MAX_REASONS = 10


def make_records(
    plans: Sequence[Plan],
    run_jobs: RunJobs,
    folder: Path,
    *,
    fresh: bool,
    keep_going: bool = False,
    retry_failed: bool = True,
    report: Callable[[Event], None],
) -> list[dict[str, object]]:
    """Make the records that do not exist yet. Return a row per plan, see `attnbench.records.rows`.

    After the same failure on a record's first two targets, its other targets do not run. A record is
    written once all of its targets have run, which a plan for some of them leaves to a later run.

    Args:
        plans: the records to make, grouped by backbone.
        run_jobs: runs the episodes.
        folder: the folder of records.
        fresh: whether to make existing records again.
        keep_going: whether to run all targets, whatever fails.
        retry_failed: whether failures in existing records run again.
        report: called with each event.

    Raises:
        AttnbenchError: after everything else has run, if the images of some episodes cannot be used.
            Their records are not written; the episodes that ran are kept for the next run.
    """
    store = RecordStore(folder)
    existing = ExistingRecords(store, plans, fresh=fresh, retry_failed=retry_failed)
    for note in existing.notes():
        report(Noted(note))
    records = dict(existing.used)
    todo = [plan for plan in plans if plan.identity not in records]
    missing = (
        plan.identity for plan in todo for _ in set(plan.requested) - existing.finished(plan).keys()
    )
    progress = Progress(missing, (path for path, _ in records.values()), report)
    with RecordWriter(store, existing, records, progress, keep_going=keep_going) as writer:
        writer.write(run_jobs(writer.jobs(todo, wait=False)))
        # Now the records that other runs were making meanwhile. Such a run may be waiting for one of
        # ours. We hold no claim any more and take one at a time, so there is no deadlock.
        for plan in todo:
            done = plan.identity in records or plan.identity in writer.unfinished
            if not done and plan.identity not in writer.unusable:
                writer.write(run_jobs(writer.jobs([plan], wait=True)))
    if writer.unusable:
        raise AttnbenchError(_explain_unusable(writer.unusable))
    if writer.unfinished:
        report(Noted(_explain_unfinished(writer.unfinished)))
    return [_row(plan, records, writer.unfinished) for plan in plans]


def _row(
    plan: Plan,
    records: Mapping[Identity, tuple[Path, Record]],
    unfinished: Mapping[Identity, Sequence[EpisodeResult]],
) -> dict[str, object]:
    """Return the row of the plan's requested targets, with their `episodes` if these are not all."""
    path: Path | None = None
    if plan.identity in unfinished:
        episodes = unfinished[plan.identity]
    else:
        path, record = records[plan.identity]
        if plan.only is None:
            return row_of(record, path)
        episodes = [episode for episode in record.episodes if episode.target in plan.only]
    row = row_of_summary(plan.identity, *overall(episodes), summarise(episodes), path)
    return row | {"episodes": tuple(episodes)}


@dataclass
class _OpenRecord:
    """A record in the making. Its claim keeps other runs from making it too.

    Attributes:
        plan: its plan.
        results: the results of the episodes that have ended, by target.
        awaited: the targets whose episodes are still to end.
        postponed: whether other targets, which were not requested, have not run either.
        claim: releases the claim when it is closed.
    """

    plan: Plan
    results: dict[str, EpisodeResult]
    awaited: set[str]
    postponed: bool
    claim: ExitStack

    @property
    def failed_alike(self) -> bool:
        """Whether the first two targets have failed in the same way."""
        first = [self.results[target] for target in self.plan.targets[:2] if target in self.results]
        return failed_alike(first)


class RecordWriter:
    """Turns completed jobs into records. Leaving the context releases all claims.

    Args:
        store: where records are kept.
        existing: what exists already.
        records: the records that are used as they are; those written are added.
        progress: counts and reports each episode.
        keep_going: whether to run all targets, whatever fails.

    Attributes:
        unusable: why some episodes did not run, for each record that lacks them.
        unfinished: the results of the requested targets, for each record that is not written because
            others have not run.
    """

    def __init__(
        self,
        store: RecordStore,
        existing: ExistingRecords,
        records: dict[Identity, tuple[Path, Record]],
        progress: Progress,
        *,
        keep_going: bool,
    ) -> None:
        self._store = store
        self._existing = existing
        self._records = records
        self._progress = progress
        self._keep_going = keep_going
        self._open: dict[Identity, _OpenRecord] = {}
        self.unusable: dict[Identity, list[str]] = {}
        self.unfinished: dict[Identity, Sequence[EpisodeResult]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for record in self._open.values():
            record.claim.close()

    def jobs(self, plans: Iterable[Plan], *, wait: bool) -> Iterator[Job]:
        """Yield the jobs of the missing episodes. Records that share adaptations are made together.

        Records are claimed when their turn comes.

        Args:
            plans: the records to make.
            wait: whether to wait for another run that is making a record. If not, skip that record.
        """
        for group in sharing_adaptation(plans):
            missing = {plan.identity: self._claim(plan, wait=wait) for plan in group}
            yield from self._jobs_of({key: targets for key, targets in missing.items() if targets})

    def _claim(self, plan: Plan, *, wait: bool) -> list[str]:
        """Claim and open a record. Return its missing targets; none if it is not to be made."""
        with ExitStack() as claim:
            if not claim.enter_context(self._store.claim(plan.identity, wait=wait)):
                return []
            if made := self._existing.made_since(plan):
                self._records[plan.identity] = made
                return []
            self._existing.restore(plan)
            results = self._existing.finished(plan)
            missing = [target for target in plan.targets if target not in results]
            targets = [target for target in missing if target in plan.requested]
            self._open[plan.identity] = _OpenRecord(
                plan, results, set(targets), len(targets) < len(missing), claim.pop_all()
            )
        if not targets:
            self._complete(plan.identity)
        return targets

    def _jobs_of(self, missing: dict[Identity, list[str]]) -> Iterator[Job]:
        """Yield a job for each target that is missing from any of some records.

        Targets of a record whose first two have failed alike are left out. An engine takes a job
        when it has room for it. If it takes them early, more of them run.

        Args:
            missing: the missing targets of open records that share their adaptations.
        """
        for target in dict.fromkeys(chain(*missing.values())):
            plans = []
            for identity, targets in missing.items():
                if target not in targets:
                    continue
                record = self._open[identity]
                if record.failed_alike and not self._keep_going:
                    self._leave_out(record, targets[targets.index(target) :])
                    missing[identity] = []
                    continue
                self._progress.report(EpisodeStarted(identity.submission, identity.task, target))
                plans.append(record.plan)
            if plans:
                cold = any(
                    target in plan.targets[:_COLD_TARGETS] and plan.identity.images is None
                    for plan in plans
                )
                yield make_job(plans[0], target, [plan.episode() for plan in plans], cold=cold)

    def _leave_out(self, record: _OpenRecord, targets: Sequence[str]) -> None:
        self._progress.episodes_left_out(record.plan.identity, len(targets))
        record.awaited.difference_update(targets)
        if not record.awaited:
            self._close(record.plan.identity)

    def write(self, completed: Generator[CompletedJob]) -> None:
        """Keep each episode as it completes, and write each record once it has all of its episodes."""
        # Closing the generator ends the engine's work at once if this process is interrupted.
        with closing(completed):
            for done in completed:
                for episode, outcome in zip(done.job.episodes, done.outcomes, strict=True):
                    self._keep(episode.identity, done.job.target, outcome)

    def _keep(
        self, identity: Identity, target: str, outcome: EpisodeOutcome | UnusableImages
    ) -> None:
        record = self._open[identity]
        if isinstance(outcome, UnusableImages):
            self.unusable.setdefault(identity, []).append(outcome.reason)
            status, reason = "failed", outcome.reason
        else:
            self._store.partial(identity).add(outcome)
            result = record.results[target] = outcome.result
            status, reason = result.status, result.reason
        self._progress.episode_ended(identity, target, status, reason)
        record.awaited.remove(target)
        if not record.awaited:
            self._close(identity)

    def _close(self, identity: Identity) -> None:
        """Write a record none of whose episodes is awaited any more, if its images could be used."""
        if identity in self.unusable:
            # Another run may be waiting for this record.
            self._open.pop(identity).claim.close()
        else:
            self._complete(identity)

    def _complete(self, identity: Identity) -> None:
        """Assemble a record from its episodes and write it, unless some have been postponed."""
        record = self._open[identity]
        if record.postponed:
            requested = record.plan.requested
            self.unfinished[identity] = [
                record.results[target] for target in requested if target in record.results
            ]
            self._open.pop(identity).claim.close()
            return
        path = _write(self._store, record.plan, record.results)
        self._records[identity] = path, self._store.read(path)
        self._open.pop(identity).claim.close()
        self._progress.report(RecordWritten(path))


def _explain_unusable(unusable: Mapping[Identity, Sequence[str]]) -> str:
    """Return a message that names every problem once."""
    reasons = dict.fromkeys(reason for reasons in unusable.values() for reason in reasons)
    records = ", ".join(
        dict.fromkeys(f"{identity.submission} on {identity.task}" for identity in unusable)
    )
    return (
        "; ".join([*list(reasons)[:_MAX_REASONS], *["…"] * (len(reasons) > _MAX_REASONS)])
        + f". Not written, therefore: the records of {records}. All other episodes have run and are "
        "kept: once the pictures are in order, run the same command again"
    )


def _explain_unfinished(unfinished: Iterable[Identity]) -> str:
    records = list(dict.fromkeys(f"{each.submission} on {each.task}" for each in unfinished))
    more = f" and {len(records) - _MAX_REASONS} more" * (len(records) > _MAX_REASONS)
    return (
        f"not complete yet: {', '.join(records[:_MAX_REASONS])}{more}. Finished targets are kept. "
        "The same command without --target runs the others and writes the record"
        f"{'s' * (len(records) > 1)}"
    )


def _write(store: RecordStore, plan: Plan, ended: Container[str]) -> Path:
    # Read back from disk, so that the record contains exactly what would survive a crash.
    finished = store.partial(plan.identity).finished()
    outcomes = [finished[target] for target in plan.targets if target in ended]
    results = tuple(outcome.result for outcome in outcomes)
    not_run = len(plan.targets) - len(results)
    status, reason = overall(results, not_run)
    record = Record(
        identity=plan.identity,
        title=plan.submission.manifest.title,
        declared_parameters=plan.submission.declared_for(plan.identity.backbone),
        overrides=plan.submission.overrides,
        environment=merge_environments([outcome.environment for outcome in outcomes]),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        status=status,
        reason=reason,
        not_run=not_run,
        summary=summarise(results),
        episodes=results,
        scores_file="",
        scores_sha256="0" * 64,
    )
    return store.save(record, pa.concat_tables([outcome.scores for outcome in outcomes]))
