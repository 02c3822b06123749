"""`attnbench.evaluate`: from submissions and tasks to records, and to a row for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import torch

from attnbench.backbones import fingerprint, load
from attnbench.backbones.backbone import Backbone
from attnbench.engines.local import Finished, Job, run_jobs
from attnbench.errors import AttnbenchError
from attnbench.evaluation.environment import describe_environment
from attnbench.evaluation.evaluator import Evaluator
from attnbench.evaluation.summary import overall, summarise
from attnbench.records.record import EpisodeResult, Identity, Record
from attnbench.records.rows import COLUMNS, row_of
from attnbench.records.store import RecordStore
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.submission import Submission, load_submission
from attnbench.tasks import TaskDefinition, Track, list_tasks, load_task


@dataclass(frozen=True)
class Planned:
    """How many episodes are still to run, and the records that were there already."""

    episodes: int
    reused: tuple[Path, ...]


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


Event = Planned | EpisodeDone | RecordWritten


@dataclass(frozen=True)
class _Planned:
    """One record to make: a submission on a task's track with one backbone and seed."""

    submission: Submission
    task: TaskDefinition
    track: Track
    stimuli: TrackStimuli
    identity: Identity


def evaluate(
    submissions: Sequence[str | Path],
    *,
    track: str = "mini",
    tasks: Sequence[str] | None = None,
    backbone: str | None = None,
    device: str = "cpu",
    seeds: int = 1,
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
    _require_device(device)
    chosen = [load_submission(submission) for submission in submissions]
    _require_distinct(chosen)
    store = RecordStore(records)
    plans: dict[str, list[_Planned]] = {}
    backbones: dict[str, Backbone] = {}
    for task in _tasks_with(track, tasks):
        definition = task.tracks[track]  # type: ignore[index]
        for name in (backbone,) if backbone else definition.backbones:
            if name not in backbones:
                backbones[name] = load(name, untrained=untrained, data=data)
            network = backbones[name]
            stimuli = TrackStimuli(definition, network.preprocessing, network.labels, data)
            for submission in chosen:
                for seed in range(seeds):
                    identity = Identity(
                        submission=submission.manifest.name,
                        submission_sha256=submission.sha256,
                        task=task.name,
                        task_version=task.version,
                        task_sha256=task.content_hash,
                        track=track,  # type: ignore[arg-type]
                        backbone=name,
                        backbone_sha256=fingerprint(network),
                        untrained=untrained,
                        seed=seed,
                        device=device,  # type: ignore[arg-type]
                        isolation="process",
                    )
                    plan = _Planned(submission, task, definition, stimuli, identity)
                    plans.setdefault(name, []).append(plan)

    everything = [plan for group in plans.values() for plan in group]
    found = {} if fresh else _already_there(store, everything)
    reused = tuple(path for path, _ in found.values())
    jobs = {
        name: [
            (plan, list(_missing(store, plan, fresh, timeout)))
            for plan in group
            if plan.identity not in found
        ]
        for name, group in plans.items()
    }
    total = sum(len(missing) for group in jobs.values() for _, missing in group)
    tell(Planned(total, reused))

    done = 0
    for name, group in jobs.items():
        with ExitStack() as stack:
            evaluator: Evaluator | None = None
            for plan, missing in group:
                if evaluator is None:
                    evaluator = stack.enter_context(
                        Evaluator(backbones[name], device=device, untrained=untrained, data=data)
                    )
                partial = store.partial(plan.identity)
                for finished in run_jobs(evaluator, missing):
                    partial.add(finished.result, finished.scores)
                    done += 1
                    tell(_episode_done(plan, finished, done, total))
                path = _complete(store, plan, device)
                found[plan.identity] = (path, store.read(path))
                tell(RecordWritten(path))
    rows = [row_of(record, path) for path, record in (found[p.identity] for p in everything)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _tasks_with(track: str, names: Sequence[str] | None) -> list[TaskDefinition]:
    if track not in ("mini", "small", "full"):
        raise AttnbenchError(f"unknown track {track!r}; the tracks are mini, small and full")
    definitions = [load_task(name) for name in (names or list_tasks())]
    usable = [task for task in definitions if track in task.tracks]
    lacking = [task.name for task in definitions if track not in task.tracks]
    if lacking and (names or not usable):
        raise AttnbenchError(
            f"no track {track!r} in {', '.join(lacking)}; `attnbench tasks` lists what there is"
        )
    return usable


def _require_device(device: str) -> None:
    if device not in ("cpu", "cuda"):
        raise AttnbenchError(f"unknown device {device!r}; choose cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise AttnbenchError("no CUDA device here; use --device cpu")


def _require_distinct(submissions: Sequence[Submission]) -> None:
    names = [submission.manifest.name for submission in submissions]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AttnbenchError(
            f"two submissions are named {', '.join(twice)}; "
            "give each its own `name` in submission.toml"
        )


def _already_there(
    store: RecordStore, plans: Sequence[_Planned]
) -> dict[Identity, tuple[Path, Record]]:
    found = ((plan.identity, store.find(plan.identity)) for plan in plans)
    return {identity: kept for identity, kept in found if kept is not None}


def _missing(
    store: RecordStore, plan: _Planned, fresh: bool, timeout: float | None
) -> Iterator[Job]:
    partial = store.partial(plan.identity)
    if fresh:
        partial.discard()
    finished = partial.finished()
    for target in plan.stimuli.targets:
        if target not in finished:
            limit = timeout or plan.track.timeout
            yield Job(plan.submission, plan.stimuli, target, plan.identity.seed, limit)


def _episode_done(plan: _Planned, finished: Finished, done: int, total: int) -> EpisodeDone:
    result = finished.result
    return EpisodeDone(
        plan.identity.submission,
        plan.identity.task,
        result.target,
        result.status,
        result.reason,
        done,
        total,
    )


def _complete(store: RecordStore, plan: _Planned, device: str) -> Path:
    """Put the episodes together into a record and write it."""
    partial = store.partial(plan.identity)
    finished = partial.finished()
    results: list[EpisodeResult] = [finished[target][0] for target in plan.stimuli.targets]
    status, reason = overall(results)
    record = Record(
        identity=plan.identity,
        title=plan.submission.manifest.title,
        declared_parameters=plan.submission.declared_for(plan.identity.backbone),
        environment=describe_environment(device),
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
