"""`attnbench verify`: run a record's episodes again and say whether its results hold."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from attnbench.backbones import fingerprint
from attnbench.backbones.own_file import files_of
from attnbench.commands.recorded_submission import find_submission
from attnbench.commands.recorded_task import find_backbone, find_task, is_recorded_version
from attnbench.commands.reproduction import mismatches, other_precision, slower_adaptation
from attnbench.devices import require_device
from attnbench.files import write_atomically
from attnbench.judge.conditions import Conditions
from attnbench.judge.environment import describe_environment
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.judge import open_judge
from attnbench.judge.resource_cache import ResourceCache
from attnbench.overrides import Settings
from attnbench.records.integrity import contradictions
from attnbench.records.outcome import EpisodeOutcome
from attnbench.records.record import EpisodeResult, Record
from attnbench.records.scores import read_scores
from attnbench.records.store import RecordStore
from attnbench.records.verification import Verification, fingerprint_of, path_beside
from attnbench.stimuli.episodes import Episode, TrackStimuli
from attnbench.submission import Submission
from attnbench.tasks import TaskDefinition

# How often an adaptation that seems slower than recorded is timed again. Other work on the machine can
# make an adaptation slower, but never faster.
_EXTRA_TIMINGS = 2
_MAX_PROBLEMS = 1000


def verify(
    record: Path,
    *,
    sample: int | None = None,
    submission: str | Path | None = None,
    task: str | Path | None = None,
    backbone: str | None = None,
    settings: Settings | None = None,
    data: Path | None = None,
    on_target: Callable[[str], None] | None = None,
) -> Verification:
    """Run a record's episodes again, compare the results, and write the outcome beside the record.

    Args:
        record: the record's JSON file. Its scores lie beside it.
        sample: how many targets to run, drawn at random. By default all of them.
        submission: the submission's folder. By default `submissions/NAME` if it exists here, else the
            shipped submission.
        task: the task file of a record of one's own task. By default the task of the recorded name.
        backbone: the backbone of a record of one's own backbone, as for `attnbench.evaluate`. By
            default the recorded name.
        settings: the overridden hyperparameters of the record, as for `attnbench.evaluate`.
        data: the data folder, as for `attnbench.evaluate`.
        on_target: called with each target before it runs.

    Raises:
        AttnbenchError: if the record cannot be read, its submission, task or data is missing, or its
            hyperparameters were overridden by others than `settings`.
    """
    recorded = RecordStore(record.parent).read(record)
    identity = recorded.identity
    require_device(identity.device)
    used = find_submission(recorded, submission, settings or {})
    definition = find_task(identity, task)
    network = find_backbone(identity, backbone)
    resources = ResourceCache(data, untrained=identity.untrained)
    problems = contradictions(record, recorded)
    problems += _version_mismatches(
        recorded, used, definition, fingerprint(resources.backbone(network))
    )
    inconclusive: list[str] = []
    targets: list[str] = []
    confinement: tuple[str, ...] = ()
    if not problems:
        track = definition.tracks[identity.track]
        stimuli = resources.stimuli(track, network)
        targets = _choose_targets(recorded, stimuli, sample)
        conditions = Conditions(
            device=identity.device,
            isolation=identity.isolation,
            modules=used.modules,
            hidden=(record.parent, *track.folders),
            data=data,
            backbone_files=files_of(network),
            untrained=identity.untrained,
        )
        with open_judge(conditions, resources) as judge:
            evaluator = judge.evaluator(network)
            announced = _announced(targets, on_target)
            for comparison in _rerun(
                evaluator, stimuli, record, recorded, used, track.timeout, announced
            ):
                problems += comparison.problems
                inconclusive += comparison.inconclusive
            confinement = evaluator.confinement
    verification = Verification(
        record_sha256=fingerprint_of(record),
        targets=tuple(targets),
        problems=tuple(problem[:1000] for problem in problems[:_MAX_PROBLEMS]),
        unsettled=tuple(problem[:1000] for problem in inconclusive[:_MAX_PROBLEMS]),
        environment=describe_environment(identity.device, confinement),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    content = verification.model_dump_json(indent=1).encode()
    write_atomically(path_beside(record), content, record.parent)
    return verification


def _version_mismatches(
    record: Record, submission: Submission, task: TaskDefinition, backbone_sha256: str
) -> Iterator[str]:
    """Yield the reasons why the record cannot be run again, as something has changed since."""
    identity = record.identity
    if submission.sha256 != identity.submission_sha256:
        yield f"the submission in {submission.folder} is not the recorded version"
    if not is_recorded_version(task, identity):
        yield f"the task {task.name} is not the recorded version"
    else:
        recorded = {episode.target for episode in record.episodes}
        missing = set(_named_targets(task, identity.track)) - recorded
        if len(missing) > record.not_run:
            yield "the record lacks targets of the task"
    if backbone_sha256 != identity.backbone_sha256:
        yield f"the backbone {identity.backbone} (weights, labels or code) is not the recorded version"


def _named_targets(task: TaskDefinition, track: str) -> tuple[str, ...]:
    targets = task.tracks[track].targets
    return () if isinstance(targets, str) else targets


def _choose_targets(record: Record, stimuli: TrackStimuli, sample: int | None) -> list[str]:
    """Return the targets to run again, in the task's order."""
    recorded = {episode.target for episode in record.episodes}
    targets = [target for target in stimuli.targets if target in recorded]
    if sample is None:
        return targets
    # The author of a record must not be able to predict which targets are drawn.
    drawn = random.SystemRandom().sample(targets, min(sample, len(targets)))
    return [target for target in targets if target in drawn]


def _announced(targets: Iterable[str], on_target: Callable[[str], None] | None) -> Iterator[str]:
    """Yield the targets. Each one is announced when its turn comes."""
    for target in targets:
        if on_target is not None:
            on_target(target)
        yield target


@dataclass(frozen=True)
class _Comparison:
    """How one episode, run again, compares with its record."""

    problems: list[str]
    inconclusive: list[str]


def _rerun(
    evaluator: Evaluator,
    stimuli: TrackStimuli,
    path: Path,
    record: Record,
    submission: Submission,
    timeout: float,
    targets: Iterable[str],
) -> Iterator[_Comparison]:
    """Run the episodes of these targets again and compare each with the record."""
    identity = record.identity
    recorded = {episode.target: episode for episode in record.episodes}
    scores = read_scores(path, record)
    this_device = describe_environment(identity.device, ()).device_name
    other_device = record.environment.device_name != this_device
    for target in targets:
        episode = stimuli.episode(target, identity.seed)
        rerun = _judge_again(evaluator, submission, episode, timeout, recorded[target])
        own_scores = scores.filter(pc.equal(scores["target"], pa.scalar(target)))
        problems: list[str] = []
        inconclusive: list[str] = []
        precision = other_precision(recorded[target], rerun.outcome.result)
        if precision and other_device:
            # Another device may not offer the recorded precision, and then the scores say nothing.
            inconclusive.append(f"{target}: not verifiable on this device: {precision}")
        else:
            found = mismatches(recorded[target], own_scores, rerun.outcome)
            problems += [f"{target}: {each}" for each in filter(None, (precision, *found))]
        if slower := slower_adaptation(recorded[target], rerun.outcome.result):
            if rerun.disturbed:
                slower += " while other work used the CPU: verify times on an idle machine"
            (inconclusive if rerun.disturbed else problems).append(f"{target}: {slower}")
        yield _Comparison(problems, inconclusive)


@dataclass(frozen=True)
class _Rerun:
    """An episode that was judged again.

    Attributes:
        outcome: with the last of its timings.
        disturbed: whether other work ran during all of its timings.
    """

    outcome: EpisodeOutcome
    disturbed: bool


def _judge_again(
    evaluator: Evaluator,
    submission: Submission,
    episode: Episode,
    timeout: float,
    recorded: EpisodeResult,
) -> _Rerun:
    """Judge an episode again, and time it repeatedly if it seems slower than recorded."""
    outcome = evaluator.judge(submission, episode, timeout, cold=False)
    result = outcome.result
    disturbed = _is_contended(result)
    for _ in range(_EXTRA_TIMINGS):
        if slower_adaptation(recorded, result) is None:
            break
        result = evaluator.time_again(submission, episode, timeout, result, cold=False).result
        disturbed &= _is_contended(result)
    return _Rerun(EpisodeOutcome(result, outcome.scores, outcome.environment), disturbed)


def _is_contended(result: EpisodeResult) -> bool:
    return result.cost is not None and result.cost.contended
