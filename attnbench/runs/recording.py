"""From plans to records: what is there is kept, what is missing is run and written."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pyarrow as pa

from attnbench.engines.engine import Finished, Job, Run
from attnbench.records.record import Identity, Record, together
from attnbench.records.rows import row_of
from attnbench.records.store import RecordStore
from attnbench.records.summary import overall, summarise
from attnbench.runs.events import EpisodeStarted, Event, Progress, RecordWritten
from attnbench.runs.planning import Plan

# So many targets of a record are adapted to once more in a process without a rehearsal. What a cold
# process costs depends on the process, hardly on the target, and each costs another adaptation.
_COLD_TARGETS = 1


def make_records(
    plans: Sequence[Plan],
    run: Run,
    folder: Path,
    *,
    modules: tuple[str, ...],
    fresh: bool,
    tell: Callable[[Event], None],
) -> list[dict[str, object]]:
    """Make the records that are not there yet; a row for each plan, see `attnbench.records.rows`.

    Args:
        plans: the records to make, those of one backbone together.
        run: judges the episodes.
        folder: where records are kept.
        modules: what workers are to have imported.
        fresh: make again those that are there.
        tell: told what happens while it happens.
    """
    store = RecordStore(folder)
    if fresh:
        for plan in plans:
            store.partial(plan.identity).discard()
    found = {} if fresh else _found(store, plans)
    todo = [plan for plan in plans if plan.identity not in found]
    missing = (plan.identity for plan in todo for _ in _missing(store, plan))
    progress = Progress(missing, (path for path, _ in found.values()), tell)
    with _Books(store, found, modules, progress, fresh=fresh) as books:
        books.keep_all(run(books.jobs(todo, wait=False)))
        # What other runs were making meanwhile. They may be waiting for this one's, so by now it holds
        # none, and takes one at a time.
        for plan in todo:
            if plan.identity not in found:
                books.keep_all(run(books.jobs([plan], wait=True)))
    return [row_of(record, path) for path, record in (found[plan.identity] for plan in plans)]


@dataclass
class _Open:
    """A record that is being made: who makes it elsewhere waits, until the claim is let go."""

    plan: Plan
    waiting_for: set[str]
    claim: ExitStack


class _Books:
    """The records that are being made; leaving the context lets go of those not complete."""

    def __init__(
        self,
        store: RecordStore,
        found: dict[Identity, tuple[Path, Record]],
        modules: tuple[str, ...],
        progress: Progress,
        *,
        fresh: bool,
    ) -> None:
        self._store = store
        self._found = found
        self._modules = modules
        self._progress = progress
        self._fresh = fresh
        self._open: dict[Identity, _Open] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        for each in self._open.values():
            each.claim.close()

    def jobs(self, plans: Iterable[Plan], *, wait: bool) -> Iterator[Job]:
        """The episodes that are missing, a record after the other, each claimed when its turn comes.

        Args:
            plans: of the records.
            wait: for another run that makes one now; otherwise that is left out.
        """
        for plan in plans:
            with ExitStack() as claim:
                if not claim.enter_context(self._store.claim(plan.identity, wait=wait)):
                    continue
                # Another run of the same thing may have made it since: then it is taken as it is.
                if not self._fresh and (made := self._store.find(plan.identity)):
                    self._found[plan.identity] = made
                    continue
                targets = _missing(self._store, plan)
                self._open[plan.identity] = _Open(plan, set(targets), claim.pop_all())
            if not targets:
                self._complete(plan.identity)
            for target in targets:
                self._progress.tell(
                    EpisodeStarted(plan.identity.submission, plan.identity.task, target)
                )
                cold = target in plan.targets[:_COLD_TARGETS]
                yield plan.job(target, cold=cold, modules=self._modules)

    def keep_all(self, finished: Generator[Finished]) -> None:
        """Keep each episode as it ends, and write a record when it has all of its own."""
        with closing(finished):
            for each in finished:
                self._store.partial(each.job.identity).add(each.measured)
                self._progress.ended(each.job.identity, each.measured.result)
                waiting_for = self._open[each.job.identity].waiting_for
                waiting_for.remove(each.job.target)
                if not waiting_for:
                    self._complete(each.job.identity)

    def _complete(self, identity: Identity) -> None:
        """Put the episodes together into a record and write it."""
        plan = self._open[identity].plan
        path = _write(self._store, plan)
        self._found[identity] = path, self._store.read(path)
        self._open.pop(identity).claim.close()
        self._progress.tell(RecordWritten(path))


def _found(store: RecordStore, plans: Iterable[Plan]) -> dict[Identity, tuple[Path, Record]]:
    kept = ((plan.identity, store.find(plan.identity)) for plan in plans)
    return {identity: record for identity, record in kept if record is not None}


def _missing(store: RecordStore, plan: Plan) -> list[str]:
    finished = store.partial(plan.identity).finished()
    return [target for target in plan.targets if target not in finished]


def _write(store: RecordStore, plan: Plan) -> Path:
    finished = store.partial(plan.identity).finished()
    episodes = [finished[target] for target in plan.targets]
    results = tuple(each.result for each in episodes)
    status, reason = overall(results)
    record = Record(
        identity=plan.identity,
        title=plan.submission.manifest.title,
        declared_parameters=plan.submission.declared_for(plan.identity.backbone),
        environment=together([each.environment for each in episodes]),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        status=status,
        reason=reason,
        summary=summarise(results),
        episodes=results,
        scores_file="",
        scores_sha256="0" * 64,
    )
    return store.save(record, pa.concat_tables([each.scores for each in episodes]).to_pandas())
