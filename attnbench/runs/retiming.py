"""Timing contended episodes again: at the end of a run, or later with `--timing-only`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from attnbench.engines.engine import Job, RunJobs, UnusableImages
from attnbench.errors import AttnbenchError
from attnbench.judge.background_load import is_quiet
from attnbench.records.environments import merge_environments
from attnbench.records.outcome import EpisodeOutcome
from attnbench.records.record import EpisodeResult, Identity, Record
from attnbench.records.rows import row_of
from attnbench.records.scores import read_scores
from attnbench.records.store import RecordStore
from attnbench.records.summary import summarise
from attnbench.runs.events import Event, Noted, RecordWritten
from attnbench.runs.planning import Plan, make_job, sharing_adaptation
from attnbench.runs.progress import Progress


def retime_if_quiet(
    plans: Sequence[Plan],
    rows: Sequence[dict[str, object]],
    run_jobs: RunJobs,
    folder: Path,
    *,
    written: Container[Path],
    report: Callable[[Event], None],
) -> list[dict[str, object]]:
    """Time the contended episodes of new records again, if other work has ended.

    Reports in one line how many episodes were contended, and how many still are.

    Args:
        plans: what was run.
        rows: a row per plan.
        run_jobs: runs the episodes, one at a time.
        folder: the folder of records.
        written: the files of the new records.
        report: called with each event.

    Returns:
        The rows, with the new times.
    """
    store = RecordStore(folder)
    counts = {
        number: _count_contended(store, plan)
        for number, plan in enumerate(plans)
        if plan.only is None and store.path_of(plan.identity) in written
    }
    contended = [number for number, count in counts.items() if count]
    if not contended:
        return list(rows)
    to_retime = [plans[number] for number in contended]
    before, settled = sum(counts.values()), 0
    by_number = dict(enumerate(rows))
    if is_quiet():
        again = retime_records(to_retime, run_jobs, folder, report=report)
        by_number |= dict(zip(contended, again, strict=True))
        settled = before - sum(_count_contended(store, plan) for plan in to_retime)
    report(Noted(_describe(before, settled)))
    return list(by_number.values())


def _count_contended(store: RecordStore, plan: Plan) -> int:
    return len(_contended_episodes(_existing_record(store, plan)[1]))


def _describe(before: int, settled: int) -> str:
    """Describe contended times in one line.

    Args:
        before: the number of episodes with contended times.
        settled: how many of them have been timed again without other work.
    """
    text = f"other work used the CPU while {before} episode{'s' * (before != 1)} ran"
    if settled:
        text += f"; {settled} timed again"
    if settled < before:
        text += f"; {before - settled} excluded from rankings: use --timing-only on an idle machine"
    return text


def retime_records(
    plans: Sequence[Plan],
    run_jobs: RunJobs,
    folder: Path,
    *,
    report: Callable[[Event], None],
) -> list[dict[str, object]]:
    """Time contended episodes again, and put the new times into their records.

    Scores stay as they are. So does an episode whose adaptation fails this time. Records that share
    adaptations get the same new times.

    Args:
        plans: the records to retime.
        run_jobs: runs the episodes, one at a time per device.
        folder: the folder of records.
        report: called with each event.

    Returns:
        A row per plan, see `attnbench.records.rows`.

    Raises:
        AttnbenchError: if a record does not exist, or the images of an episode cannot be used.
    """
    store = RecordStore(folder)
    records = {plan.identity: _existing_record(store, plan) for plan in plans}
    contended = {plan.identity: _contended_episodes(records[plan.identity][1]) for plan in plans}
    unchanged = [records[identity][0] for identity, episodes in contended.items() if not episodes]
    to_time = (identity for identity, episodes in contended.items() for _ in episodes)
    progress = Progress(to_time, unchanged, report)
    timed: dict[Identity, list[EpisodeOutcome]] = defaultdict(list)
    with ExitStack() as claims:
        for plan in plans:
            claims.enter_context(store.claim(plan.identity))
        jobs = (job for group in sharing_adaptation(plans) for job in _jobs(group, contended))
        for done in claims.enter_context(closing(run_jobs(jobs))):
            for episode, outcome in zip(done.job.episodes, done.outcomes, strict=True):
                identity = episode.identity
                if isinstance(outcome, UnusableImages):
                    raise AttnbenchError(outcome.reason)
                result = outcome.result
                progress.episode_ended(identity, result.target, result.status, result.reason)
                timed[identity].append(outcome)
                if len(timed[identity]) == len(contended[identity]):
                    path, record = records[identity]
                    retimed = _with_new_times(record, timed.pop(identity))
                    path = store.save(retimed, read_scores(path, record))
                    records[identity] = path, store.read(path)
                    report(RecordWritten(path))
    return [row_of(record, path) for path, record in (records[plan.identity] for plan in plans)]


def _jobs(
    plans: Sequence[Plan], contended: Mapping[Identity, Sequence[EpisodeResult]]
) -> Iterator[Job]:
    """Yield a job for each target with contended times in any of the records that share them."""
    by_target: dict[str, list[tuple[Plan, EpisodeResult]]] = defaultdict(list)
    for plan in plans:
        for result in contended[plan.identity]:
            by_target[result.target].append((plan, result))
    for target, to_time in by_target.items():
        costs = [result.cost for _, result in to_time]
        cold = any(cost and cost.adaptation_seconds_cold is not None for cost in costs)
        episodes = [plan.episode(result) for plan, result in to_time]
        yield make_job(to_time[0][0], target, episodes, cold=cold)


def _existing_record(store: RecordStore, plan: Plan) -> tuple[Path, Record]:
    record = store.find(plan.identity)
    if record is None:
        raise AttnbenchError(
            f"there is no record of {plan.identity.submission} on {plan.identity.task} (seed "
            f"{plan.identity.seed}) to time again: evaluate it without --timing-only first"
        )
    return record


def _contended_episodes(record: Record) -> list[EpisodeResult]:
    return [
        episode
        for episode in record.episodes
        if episode.cost is not None and episode.cost.contended
    ]


def _with_new_times(record: Record, outcomes: Sequence[EpisodeOutcome]) -> Record:
    """Return the record with the episodes that were timed again, and with their environment."""
    ok = {outcome.result.target: outcome for outcome in outcomes if outcome.result.status == "ok"}
    if not ok:
        return record
    episodes = tuple(
        ok[episode.target].result if episode.target in ok else episode
        for episode in record.episodes
    )
    environment = merge_environments([outcome.environment for outcome in ok.values()])
    update = {"episodes": episodes, "summary": summarise(episodes), "environment": environment}
    return record.model_copy(update=update)
