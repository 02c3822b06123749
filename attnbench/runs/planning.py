"""From a request to the records to make: submission x task x backbone x seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from attnbench.backbones import fingerprint
from attnbench.devices import require_device
from attnbench.engines.engine import Job
from attnbench.errors import AttnbenchError
from attnbench.judge.resource_cache import ResourceCache
from attnbench.records.record import EpisodeResult, Identity
from attnbench.records.rows import COLUMNS
from attnbench.runs.submissions import RejectedSubmission
from attnbench.submission import Submission
from attnbench.tasks import TaskDefinition, Track, list_tasks, load_task
from attnbench.vocabulary import TRACKS, DeviceKind, IsolationLevel, TrackName


@dataclass(frozen=True)
class Request:
    """What a user asks for besides the submissions; see `attnbench.evaluate`."""

    track: TrackName
    tasks: Sequence[str] | None
    backbone: str | None
    device: DeviceKind
    seeds: int
    isolation: IsolationLevel
    timeout: float | None
    untrained: bool


@dataclass(frozen=True)
class Plan:
    """One record to make.

    Attributes:
        submission: what is judged.
        track: the definition of the task's track.
        targets: one episode each.
        timeout: seconds for one adaptation.
        identity: of the record.
    """

    submission: Submission
    track: Track
    targets: tuple[str, ...]
    timeout: float
    identity: Identity

    def job(self, target: str, *, cold: bool, timed: EpisodeResult | None = None) -> Job:
        """The job for the episode of one target; see `Job` for the arguments."""
        return Job(
            identity=self.identity,
            submission=self.submission,
            track=self.track,
            target=target,
            timeout=self.timeout,
            cold=cold,
            timed=timed,
        )


def make_plans(
    submissions: Sequence[Submission], request: Request, resources: ResourceCache
) -> list[Plan]:
    """Plan all records to make, grouped by backbone.

    Args:
        submissions: each of them gets a record per task, backbone and seed.
        request: which tasks, backbones and seeds.
        resources: backbones and stimuli are loaded into it.

    Raises:
        AttnbenchError: for unknown names, malformed task files, or missing data.
    """
    require_device(request.device)
    plans: list[Plan] = []
    hashes: dict[str, str] = {}
    for task in _tasks_of(request):
        track = task.tracks[request.track]
        for backbone in _backbones_of(task, request):
            if backbone not in hashes:
                hashes[backbone] = fingerprint(resources.backbone(backbone))
            targets = resources.stimuli(track, backbone).targets
            plans += [
                Plan(
                    submission=submission,
                    track=track,
                    targets=targets,
                    timeout=request.timeout or track.timeout,
                    identity=Identity(
                        submission=submission.name,
                        submission_sha256=submission.sha256,
                        task=task.name,
                        task_version=task.version,
                        task_sha256=task.content_hash,
                        track=request.track,
                        backbone=backbone,
                        backbone_sha256=hashes[backbone],
                        untrained=request.untrained,
                        seed=seed,
                        device=request.device,
                        isolation=request.isolation,
                    ),
                )
                for submission in submissions
                for seed in range(request.seeds)
            ]
    order = list(hashes)
    return sorted(plans, key=lambda plan: order.index(plan.identity.backbone))


def rows_of_rejected(
    rejected: Sequence[RejectedSubmission], request: Request
) -> list[dict[str, object]]:
    """A failure row for each record that a rejected submission should have had."""
    return [
        dict.fromkeys(COLUMNS)
        | {
            "submission": submission.name,
            "task": task.name,
            "track": request.track,
            "backbone": backbone,
            "seed": seed,
            "device": request.device,
            "status": "failed",
            "reason": submission.reason,
            "isolation": request.isolation,
        }
        for submission in rejected
        for task in _tasks_of(request)
        for backbone in _backbones_of(task, request)
        for seed in range(request.seeds)
    ]


def _backbones_of(task: TaskDefinition, request: Request) -> tuple[str, ...]:
    return (request.backbone,) if request.backbone else task.tracks[request.track].backbones


def _tasks_of(request: Request) -> Iterator[TaskDefinition]:
    """The tasks asked for, or else all tasks of the track. Raises AttnbenchError."""
    if request.track not in TRACKS:
        raise AttnbenchError(
            f"unknown track {request.track!r}; the tracks are mini, small and full"
        )
    tasks = [load_task(name) for name in (request.tasks or list_tasks())]
    usable = [task for task in tasks if request.track in task.tracks]
    lacking = [task.name for task in tasks if request.track not in task.tracks]
    if lacking and (request.tasks or not usable):
        raise AttnbenchError(
            f"{', '.join(lacking)}: no track {request.track!r}; `attnbench tasks` lists the tracks "
            "of each task"
        )
    return iter(usable)
