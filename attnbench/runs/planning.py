"""From what a user asks for to the records to make: submission x task x backbone x seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from attnbench.backbones import fingerprint
from attnbench.engines.engine import Job
from attnbench.errors import AttnbenchError
from attnbench.evaluation.isolation import Isolation
from attnbench.materials import Materials
from attnbench.records.record import EpisodeResult, Identity
from attnbench.records.rows import COLUMNS
from attnbench.submission import Submission, load_submission
from attnbench.tasks import TaskDefinition, Track, list_tasks, load_task


@dataclass(frozen=True)
class Request:
    """What a user asks for, beside the submissions; see `attnbench.evaluate`."""

    track: str
    tasks: Sequence[str] | None
    backbone: str | None
    device: str
    seeds: int
    isolation: Isolation
    timeout: float | None
    untrained: bool


@dataclass(frozen=True)
class Plan:
    """One record to make.

    Attributes:
        submission: what is judged.
        track: the definition of the task's track.
        targets: an episode for each.
        timeout: seconds for one adaptation.
        identity: of the record.
    """

    submission: Submission
    track: Track
    targets: tuple[str, ...]
    timeout: float
    identity: Identity

    def job(
        self,
        target: str,
        *,
        cold: bool,
        modules: tuple[str, ...],
        again: EpisodeResult | None = None,
    ) -> Job:
        """The episode of one of its targets, for an engine; arguments as `Job` has them."""
        return Job(
            identity=self.identity,
            submission=self.submission,
            track=self.track,
            target=target,
            timeout=self.timeout,
            cold=cold,
            modules=modules,
            again=again,
        )


@dataclass(frozen=True)
class Refused:
    """A submission that is there and cannot be run, and why."""

    name: str
    reason: str


def read_submissions(
    submissions: Sequence[str | Path],
) -> tuple[list[Submission], list[Refused]]:
    """The submissions that can be run, and those that cannot for a reason of their own.

    Raises:
        AttnbenchError: for one that is not there at all, and for two of one name.
    """
    chosen: list[Submission] = []
    refused: list[Refused] = []
    for each in submissions:
        try:
            chosen.append(load_submission(each))
        except AttnbenchError as error:
            if not Path(each).is_dir():
                raise
            refused.append(Refused(Path(each).resolve().name, str(error)))
    _require_distinct(chosen)
    return chosen, refused


def make_plans(
    submissions: Sequence[Submission], request: Request, materials: Materials
) -> list[Plan]:
    """All records to make, those of one backbone together.

    Args:
        submissions: for each of which there are to be records.
        request: of which kind.
        materials: where backbones and stimuli are loaded, and stay.

    Raises:
        AttnbenchError: for what is unknown, malformed, or not there.
    """
    require_device(request.device)
    plans: list[Plan] = []
    hashes: dict[str, str] = {}
    for task in _tasks_with(request.track, request.tasks):
        definition = task.tracks[request.track]  # type: ignore[index]
        for name in _backbones_of(task, request):
            if name not in hashes:
                hashes[name] = fingerprint(materials.backbone(name))
            targets = materials.stimuli(definition, name).targets
            plans += [
                Plan(
                    submission=submission,
                    track=definition,
                    targets=targets,
                    timeout=request.timeout or definition.timeout,
                    identity=Identity(
                        submission=submission.manifest.name,
                        submission_sha256=submission.sha256,
                        task=task.name,
                        task_version=task.version,
                        task_sha256=task.content_hash,
                        track=request.track,  # type: ignore[arg-type]
                        backbone=name,
                        backbone_sha256=hashes[name],
                        untrained=request.untrained,
                        seed=seed,
                        device=request.device,  # type: ignore[arg-type]
                        isolation=request.isolation,
                    ),
                )
                for submission in submissions
                for seed in range(request.seeds)
            ]
    order = list(hashes)
    return sorted(plans, key=lambda plan: order.index(plan.identity.backbone))


def rows_of_refused(refused: Sequence[Refused], request: Request) -> list[dict[str, object]]:
    """A failure row, without a record, for each record that a refused submission should have had."""
    return [
        dict.fromkeys(COLUMNS)
        | {
            "submission": each.name,
            "task": task.name,
            "track": request.track,
            "backbone": name,
            "seed": seed,
            "device": request.device,
            "status": "failed",
            "reason": each.reason,
            "isolation": request.isolation,
        }
        for each in refused
        for task in _tasks_with(request.track, request.tasks)
        for name in _backbones_of(task, request)
        for seed in range(request.seeds)
    ]


def _backbones_of(task: TaskDefinition, request: Request) -> tuple[str, ...]:
    track = task.tracks[request.track]  # type: ignore[index]
    return (request.backbone,) if request.backbone else track.backbones


def _tasks_with(track: str, names: Sequence[str] | None) -> Iterator[TaskDefinition]:
    if track not in ("mini", "small", "full"):
        raise AttnbenchError(f"unknown track {track!r}; the tracks are mini, small and full")
    definitions = [load_task(name) for name in (names or list_tasks())]
    usable = [task for task in definitions if track in task.tracks]
    lacking = [task.name for task in definitions if track not in task.tracks]
    if lacking and (names or not usable):
        raise AttnbenchError(
            f"no track {track!r} in {', '.join(lacking)}; `attnbench tasks` lists what there is"
        )
    return iter(usable)


def require_device(device: str) -> None:
    """Raise AttnbenchError where there is no such device."""
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
