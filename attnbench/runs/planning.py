"""Planning a run: the records to make, one per submission, task, backbone and seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from attnbench.backbones import fingerprint
from attnbench.backbones.own_file import name_in_records
from attnbench.devices import require_device
from attnbench.engines.engine import Job, JobEpisode
from attnbench.judge.resource_cache import ResourceCache
from attnbench.records.record import EpisodeResult, Identity
from attnbench.records.rows import COLUMNS
from attnbench.runs.chosen_tasks import ChosenTask
from attnbench.runs.identities import Request, identity_of
from attnbench.runs.submissions import RejectedSubmission
from attnbench.stimuli.adaptation_images import shared_definition
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.submission import Submission
from attnbench.task_schema import Track


@dataclass(frozen=True)
class Plan:
    """One record to make.

    Attributes:
        submission: the submission to judge.
        track: the definition of the task's track.
        backbone: the backbone, as `attnbench.backbones.load` takes it.
        targets: the targets of the track. The record has an episode for each.
        timeout: seconds for one adaptation.
        identity: the identity of the record.
        fingerprint_of: returns the fingerprint that a target's episode would have now. None if the
            task reads no pictures of one's own, which are the only ones that change.
        only: the only targets to run now. None for all of them.
    """

    submission: Submission
    track: Track
    backbone: str
    targets: tuple[str, ...]
    timeout: float
    identity: Identity
    fingerprint_of: Callable[[str], str] | None = None
    only: tuple[str, ...] | None = None

    @property
    def requested(self) -> tuple[str, ...]:
        """The targets to run now."""
        return self.targets if self.only is None else self.only

    def has_same_images(self, result: EpisodeResult) -> bool:
        """Return whether an earlier result is of the images that its episode would have now."""
        if self.fingerprint_of is None:
            return True
        return self.fingerprint_of(result.target) == result.images_sha256

    def episode(self, timed: EpisodeResult | None = None) -> JobEpisode:
        """Return the record's part in a job; see `JobEpisode` for the argument."""
        return JobEpisode(self.identity, self.track, timed)


def sharing_adaptation(plans: Iterable[Plan]) -> list[list[Plan]]:
    """Group plans that differ only in what their detectors are tested on.

    Their episodes have the same images to adapt on, so one adaptation serves all of them.

    Returns:
        The groups in the order of their first plans.
    """
    groups: dict[tuple[object, ...], list[Plan]] = defaultdict(list)
    for plan in plans:
        identity = plan.identity
        submission = identity.submission, identity.submission_sha256
        run = plan.backbone, identity.seed, identity.images, plan.timeout
        groups[(*submission, *run, shared_definition(plan.track))].append(plan)
    return list(groups.values())


def make_job(plan: Plan, target: str, episodes: Sequence[JobEpisode], *, cold: bool) -> Job:
    """Return the job for the episodes of a target that share one adaptation.

    Args:
        plan: one of the plans of the episodes.
        target, episodes, cold: see `Job`.
    """
    return Job(
        episodes=tuple(episodes),
        submission=plan.submission,
        backbone=plan.backbone,
        target=target,
        seed=plan.identity.seed,
        timeout=plan.timeout,
        cold=cold,
    )


def make_plans(
    submissions: Sequence[Submission],
    tasks: Sequence[ChosenTask],
    request: Request,
    resources: ResourceCache,
) -> list[Plan]:
    """Plan all records to make, grouped by backbone.

    Args:
        submissions: the submissions to judge. Each gets a record per task, backbone and seed.
        tasks: the tasks to judge them on.
        request: the seeds and conditions.
        resources: where backbones and stimuli are loaded.

    Raises:
        AttnbenchError: for unknown names, malformed task files, or missing data.
    """
    require_device(request.device)
    plans: list[Plan] = []
    hashes: dict[str, str] = {}
    for chosen in tasks:
        track = chosen.definition
        for backbone in chosen.backbones:
            network = resources.backbone(backbone)
            if backbone not in hashes:
                hashes[backbone] = fingerprint(network)
            stimuli = resources.stimuli(track, backbone)
            stimuli.check(range(request.seeds))
            plans += [
                Plan(
                    submission=submission,
                    track=track,
                    backbone=backbone,
                    targets=stimuli.targets,
                    timeout=request.timeout or track.timeout,
                    identity=identity_of(
                        submission, chosen, network.name, hashes[backbone], request, seed
                    ),
                    fingerprint_of=(
                        partial(stimuli.fingerprint, seed=seed) if stimuli.is_own else None
                    ),
                    only=chosen.targets,
                )
                for submission in submissions
                for seed in range(request.seeds)
            ]
    order = list(hashes)
    return sorted(plans, key=lambda plan: order.index(plan.backbone))


def rows_of_rejected(
    rejected: Sequence[RejectedSubmission], tasks: Sequence[ChosenTask], request: Request
) -> list[dict[str, object]]:
    """Return a failure row for each record that a rejected submission would have had."""
    return [
        dict.fromkeys(COLUMNS)
        | {
            "submission": submission.name,
            "task": chosen.task.name,
            "track": chosen.track,
            "backbone": name_in_records(backbone),
            "seed": seed,
            "device": request.device,
            "status": "failed",
            "reason": submission.reason,
            "isolation": request.isolation,
        }
        for submission in rejected
        for chosen in tasks
        for backbone in chosen.backbones
        for seed in range(request.seeds)
    ]


def notes_of(tasks: Sequence[ChosenTask], seeds: int, resources: ResourceCache) -> list[str]:
    """Return what the user should know about the data of a run, such as duplicate pictures."""
    notes = [
        f"{chosen.task.name}: {note}"
        for chosen in tasks
        for backbone in chosen.backbones
        for note in _notes_of(resources.stimuli(chosen.definition, backbone), seeds)
    ]
    return list(dict.fromkeys(notes))


def _notes_of(stimuli: TrackStimuli, seeds: int) -> list[str]:
    shared = stimuli.note_on_seeds(range(seeds))
    return [*stimuli.notes, *([shared] if shared else [])]
