"""`attnbench verify`: run a record's episodes again and say whether its results hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from attnbench.commands.recorded_run import RecordedRun, announced, find_run
from attnbench.commands.reproduction import mismatches, other_precision, slower_adaptation
from attnbench.files import write_atomically
from attnbench.judge.environment import describe_environment
from attnbench.judge.evaluator import Evaluator
from attnbench.overrides import Settings
from attnbench.records.companions import fingerprint_of
from attnbench.records.integrity import contradictions
from attnbench.records.outcome import EpisodeOutcome
from attnbench.records.record import EpisodeResult
from attnbench.records.scores import read_scores
from attnbench.records.verification import Verification, path_beside
from attnbench.stimuli.episode import Episode
from attnbench.submission import Submission

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
    run = find_run(
        record, submission=submission, task=task, backbone=backbone, settings=settings, data=data
    )
    identity = run.record.identity
    problems = [*contradictions(record, run.record), *run.version_mismatches()]
    inconclusive: list[str] = []
    targets: list[str] = []
    confinement: tuple[str, ...] = ()
    if not problems:
        targets = run.choose_targets(sample)
        with run.open_evaluator() as evaluator:
            for comparison in _rerun(evaluator, run, announced(targets, on_target)):
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


@dataclass(frozen=True)
class _Comparison:
    """How one episode, run again, compares with its record."""

    problems: list[str]
    inconclusive: list[str]


def _rerun(evaluator: Evaluator, run: RecordedRun, targets: Iterable[str]) -> Iterator[_Comparison]:
    """Run the episodes of these targets again and compare each with the record."""
    record, identity, stimuli = run.record, run.record.identity, run.stimuli
    recorded = {episode.target: episode for episode in record.episodes}
    scores = read_scores(run.path, record)
    this_device = describe_environment(identity.device, ()).device_name
    other_device = record.environment.device_name != this_device
    for target in targets:
        episode = stimuli.episode(target, identity.seed)
        rerun = _judge_again(
            evaluator, run.submission, episode, run.track.timeout, recorded[target]
        )
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
        (again,) = evaluator.time_again(submission, [episode], timeout, [result], cold=False)
        result = again.result
        disturbed &= _is_contended(result)
    return _Rerun(EpisodeOutcome(result, outcome.scores, outcome.environment), disturbed)


def _is_contended(result: EpisodeResult) -> bool:
    return result.cost is not None and result.cost.contended
