"""What a run requests, and the identities of the records that it makes. Without torch."""

from __future__ import annotations

from dataclasses import dataclass

from attnbench.records.record import Identity
from attnbench.runs.chosen_tasks import ChosenTask
from attnbench.submission import Submission
from attnbench.vocabulary import DeviceKind, IsolationLevel


@dataclass(frozen=True)
class Request:
    """What a user requests besides the submissions; see `attnbench.evaluate`."""

    device: DeviceKind
    seeds: int
    isolation: IsolationLevel
    timeout: float | None
    untrained: bool


def identity_of(
    submission: Submission,
    chosen: ChosenTask,
    backbone: str,
    backbone_sha256: str,
    request: Request,
    seed: int,
) -> Identity:
    """Return the identity of a record.

    Args:
        submission: the submission to judge.
        chosen: the task and track.
        backbone: the backbone's name in records.
        backbone_sha256: its fingerprint, see `attnbench.backbones.fingerprint`.
        request: the conditions.
        seed: the seed.
    """
    return Identity(
        submission=submission.name,
        submission_sha256=submission.sha256,
        task=chosen.task.name,
        task_version=chosen.task.version,
        task_sha256=chosen.task.content_hash(chosen.track),
        track=chosen.track,
        backbone=backbone,
        backbone_sha256=backbone_sha256,
        untrained=request.untrained,
        seed=seed,
        device=request.device,
        isolation=request.isolation,
    )
