"""What a record was made with, found again so that its targets can be judged once more."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from attnbench.backbones import fingerprint
from attnbench.backbones.own_file import files_of
from attnbench.commands.recorded_submission import find_submission
from attnbench.commands.recorded_task import find_backbone, find_task, is_recorded_version
from attnbench.devices import require_device
from attnbench.judge.conditions import Conditions
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.judge import open_judge
from attnbench.judge.resource_cache import ResourceCache
from attnbench.overrides import Settings
from attnbench.records.record import Record
from attnbench.records.store import RecordStore
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.submission import Submission
from attnbench.task_schema import Track
from attnbench.tasks import TaskDefinition


@dataclass(frozen=True)
class RecordedRun:
    """A record with its submission, task and backbone, perhaps of other versions than recorded.

    Attributes:
        path: the record's JSON file.
        record: the record in it.
        submission: its submission.
        task: its task.
        backbone: the name that its backbone is loaded by.
        resources: where the backbone and the stimuli are loaded.
        data: the data folder, or None for the hub.
    """

    path: Path
    record: Record
    submission: Submission
    task: TaskDefinition
    backbone: str
    resources: ResourceCache
    data: Path | None

    @property
    def track(self) -> Track:
        """The definition of its track."""
        return self.task.tracks[self.record.identity.track]

    @property
    def stimuli(self) -> TrackStimuli:
        """The episodes of its track."""
        return self.resources.stimuli(self.track, self.backbone)

    def version_mismatches(self) -> Iterator[str]:
        """Yield the reasons why the record cannot be run again, as something has changed since."""
        identity, submission = self.record.identity, self.submission
        if submission.sha256 != identity.submission_sha256:
            yield f"the submission in {submission.folder} is not the recorded version"
        if not is_recorded_version(self.task, identity):
            yield f"the task {self.task.name} is not the recorded version"
        else:
            named = self.track.targets
            recorded = {episode.target for episode in self.record.episodes}
            missing = set(() if isinstance(named, str) else named) - recorded
            if len(missing) > self.record.not_run:
                yield "the record lacks targets of the task"
        if fingerprint(self.resources.backbone(self.backbone)) != identity.backbone_sha256:
            yield (
                f"the backbone {identity.backbone} (weights, labels or code) is not the recorded "
                "version"
            )

    def choose_targets(self, sample: int | None) -> list[str]:
        """Return the targets to judge again, in the task's order.

        Args:
            sample: how many, drawn at random. None for all that are recorded.
        """
        recorded = {episode.target for episode in self.record.episodes}
        targets = [target for target in self.stimuli.targets if target in recorded]
        if sample is None:
            return targets
        # The author of a record must not be able to predict which targets are drawn.
        drawn = random.SystemRandom().sample(targets, min(sample, len(targets)))
        return [target for target in targets if target in drawn]

    @contextlib.contextmanager
    def open_evaluator(self) -> Iterator[Evaluator]:
        """Open an evaluator under the recorded conditions. Leaving the context ends its processes.

        Raises:
            AttnbenchError: if the conditions cannot be met.
        """
        identity = self.record.identity
        conditions = Conditions(
            device=identity.device,
            isolation=identity.isolation,
            modules=self.submission.modules,
            hidden=(self.path.parent, *self.track.folders),
            data=self.data,
            backbone_files=files_of(self.backbone),
            untrained=identity.untrained,
        )
        with open_judge(conditions, self.resources) as judge:
            yield judge.evaluator(self.backbone)


def find_run(
    path: Path,
    *,
    submission: str | Path | None,
    task: str | Path | None,
    backbone: str | None,
    settings: Settings | None,
    data: Path | None,
) -> RecordedRun:
    """Find what a record was made with; the arguments are those of `attnbench.verify`.

    Raises:
        AttnbenchError: if the record cannot be read, its device, submission, task or backbone is
            missing, or its hyperparameters were overridden by others than `settings`.
    """
    record = RecordStore(path.parent).read(path)
    identity = record.identity
    require_device(identity.device)
    return RecordedRun(
        path=path,
        record=record,
        submission=find_submission(record, submission, settings or {}),
        task=find_task(identity, task),
        backbone=find_backbone(identity, backbone),
        resources=ResourceCache(data, untrained=identity.untrained),
        data=data,
    )


def announced(targets: Iterable[str], on_target: Callable[[str], None] | None) -> Iterator[str]:
    """Yield the targets. Each one is announced when its turn comes."""
    for target in targets:
        if on_target is not None:
            on_target(target)
        yield target
