"""`--timing-only`: the times of recorded episodes that shared a processor, taken once more, alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from attnbench.engines.engine import Job, Run
from attnbench.errors import AttnbenchError
from attnbench.records.integrity import read_scores
from attnbench.records.record import EpisodeResult, Identity, Record, together
from attnbench.records.rows import row_of
from attnbench.records.store import Measured, RecordStore
from attnbench.records.summary import summarise
from attnbench.runs.events import Event, Progress, RecordWritten
from attnbench.runs.planning import Plan


def time_records(
    plans: Sequence[Plan],
    run: Run,
    folder: Path,
    *,
    modules: tuple[str, ...],
    tell: Callable[[Event], None],
) -> list[dict[str, object]]:
    """Time contended episodes again and put these times into their records; a row for each plan.

    Scores stay as they are, and so does an episode whose adaptation fails this time.

    Args:
        plans: of the records.
        run: judges the episodes, one at a time on a device.
        folder: where the records are.
        modules: what workers are to have imported.
        tell: told what happens while it happens.

    Raises:
        AttnbenchError: where one is not there.
    """
    store = RecordStore(folder)
    found = {plan.identity: _recorded(store, plan) for plan in plans}
    contended = {plan.identity: _contended(found[plan.identity][1]) for plan in plans}
    whole = [found[identity][0] for identity, episodes in contended.items() if not episodes]
    wanted = (identity for identity, episodes in contended.items() for _ in episodes)
    progress = Progress(wanted, whole, tell)
    timed: dict[Identity, list[Measured]] = defaultdict(list)
    with ExitStack() as claims:
        for plan in plans:
            claims.enter_context(store.claim(plan.identity))
        jobs = (job for plan in plans for job in _jobs(plan, contended[plan.identity], modules))
        for each in claims.enter_context(closing(run(jobs))):
            identity = each.job.identity
            progress.ended(identity, each.measured.result)
            timed[identity].append(each.measured)
            if len(timed[identity]) == len(contended[identity]):
                path, record = found[identity]
                again = _with_times(record, timed.pop(identity))
                path = store.save(again, read_scores(path, record))
                found[identity] = path, store.read(path)
                tell(RecordWritten(path))
    return [row_of(record, path) for path, record in (found[plan.identity] for plan in plans)]


def _jobs(plan: Plan, episodes: Sequence[EpisodeResult], modules: tuple[str, ...]) -> Iterator[Job]:
    for episode in episodes:
        cold = episode.cost is not None and episode.cost.adaptation_seconds_cold is not None
        yield plan.job(episode.target, cold=cold, modules=modules, again=episode)


def _recorded(store: RecordStore, plan: Plan) -> tuple[Path, Record]:
    found = store.find(plan.identity)
    if found is None:
        raise AttnbenchError(
            f"no record of {plan.identity.submission} on {plan.identity.task} (seed "
            f"{plan.identity.seed}) to take times for: evaluate it without --timing-only first"
        )
    return found


def _contended(record: Record) -> list[EpisodeResult]:
    return [each for each in record.episodes if each.cost is not None and each.cost.contended]


def _with_times(record: Record, timed: Sequence[Measured]) -> Record:
    """The record with these episodes in place of its own, on the machine that timed them."""
    ok = {each.result.target: each for each in timed if each.result.status == "ok"}
    if not ok:
        return record
    episodes = tuple(ok[e.target].result if e.target in ok else e for e in record.episodes)
    environment = together([each.environment for each in ok.values()])
    update = {"episodes": episodes, "summary": summarise(episodes), "environment": environment}
    return record.model_copy(update=update)
