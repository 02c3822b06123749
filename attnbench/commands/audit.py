"""`attnbench verify --audit`: score a record's submission on episodes of a secret seed."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from attnbench.commands.recorded_run import RecordedRun, announced, find_run
from attnbench.errors import AttnbenchError
from attnbench.files import write_atomically
from attnbench.judge.environment import describe_environment
from attnbench.judge.evaluator import Evaluator
from attnbench.overrides import Settings
from attnbench.records.audit import Audit, audit_file
from attnbench.records.companions import fingerprint_of
from attnbench.records.integrity import contradictions, responses_by_target
from attnbench.records.scores import read_scores
from attnbench.statistics.retest import Trials, retest
from attnbench.text import printable

# Public seeds are 0 … N - 1 of `evaluate --seeds N`. They do not get this far.
_SMALLEST_SEED = 1 << 32
# All seeds are below 2**53, so that any reader of JSON keeps every digit.
_SEED_BITS = 52
_MAX_REASON = 1000


def draw_secret_seed() -> int:
    """Draw a seed from the system's random numbers. It is never one of the public seeds."""
    return _SMALLEST_SEED + secrets.randbits(_SEED_BITS)


def audit(
    record: Path,
    *,
    sample: int | None = None,
    submission: str | Path | None = None,
    task: str | Path | None = None,
    backbone: str | None = None,
    settings: Settings | None = None,
    data: Path | None = None,
    on_target: Callable[[str], None] | None = None,
) -> Audit:
    """Judge a record's targets on images of a secret seed, and write the outcome beside the record.

    The images of public seeds are known to whoever writes a submission. Nobody knows those of a seed
    that is drawn now.

    Args:
        record: the record's JSON file. Its scores lie beside it.
        sample: how many targets to judge, drawn at random. By default all of them.
        submission, task, backbone, settings, data, on_target: as for `attnbench.verify`.

    Raises:
        AttnbenchError: if the record cannot be audited. The message says why.
    """
    run = find_run(
        record, submission=submission, task=task, backbone=backbone, settings=settings, data=data
    )
    _check(run)
    seed = draw_secret_seed()
    targets = run.choose_targets(sample)
    scores = read_scores(record, run.record)
    recorded = responses_by_target(scores)
    known = set(zip(scores["target"].to_pylist(), scores["image"].to_pylist(), strict=True))
    with run.open_evaluator() as evaluator:
        episodes = [
            _judge(evaluator, run, target, seed, known) for target in announced(targets, on_target)
        ]
        confinement = evaluator.confinement
    try:
        outcome = retest(
            [episode.trials for episode in episodes],
            [Trials(recorded[name].scores, recorded[name].present) for name in targets],
        )
    except ValueError:
        raise AttnbenchError(
            f"{record}: the data has changed: the episodes have other numbers of test images"
        ) from None
    audited = Audit(
        record_sha256=fingerprint_of(record),
        environment=describe_environment(run.record.identity.device, confinement),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=seed,
        targets=tuple(targets),
        failures=tuple(episode.failure for episode in episodes if episode.failure),
        new_images=float(np.mean([episode.new_images for episode in episodes])),
        d_prime=outcome.d_prime[0],
        d_prime_recorded=outcome.d_prime[1],
        d_a=outcome.d_a[0],
        d_a_recorded=outcome.d_a[1],
        low=outcome.low,
        high=outcome.high,
    )
    content = audited.model_dump_json(indent=1).encode()
    write_atomically(audit_file(record), content, record.parent)
    return audited


def _check(run: RecordedRun) -> None:
    """Raise AttnbenchError unless new episodes can be compared with those of the record."""
    problems = []
    if run.record.status != "ok":
        problems.append(f"it is {run.record.status}, and has no scores to compare with")
    problems += contradictions(run.path, run.record)
    problems += run.version_mismatches()
    if problems:
        raise AttnbenchError(f"cannot audit {run.path}: {printable(problems[0], 300)}")


@dataclass(frozen=True)
class _NewEpisode:
    """An episode of the secret seed.

    Attributes:
        trials: its scores `[n]`, which are all 0 if it failed: chance, in d' and in d_a.
        failure: why it failed, with the target; empty if it did not.
        new_images: the share of its test images that the record was not tested on.
    """

    trials: Trials
    failure: str
    new_images: float


def _judge(
    evaluator: Evaluator, run: RecordedRun, target: str, seed: int, known: Set[tuple[str, str]]
) -> _NewEpisode:
    """Judge a target on the images of a seed; `known` has the recorded targets and test images."""
    # Only the images are those of the secret seed. The worker gets the recorded one for its random
    # numbers: whoever knows the seed of drawn pictures can draw them again, with their labels.
    episode = replace(run.stimuli.episode(target, seed), seed=run.record.identity.seed)
    outcome = evaluator.judge(run.submission, episode, run.track.timeout, cold=False)
    result = outcome.result
    new = np.mean([(target, image) not in known for image in episode.image_ids])
    if result.status != "ok":
        reason = f"{target}: {result.reason}"[:_MAX_REASON]
        chance = np.zeros(len(episode.present))
        return _NewEpisode(Trials(chance, episode.present), reason, float(new))
    judged = responses_by_target(outcome.scores)[target]
    return _NewEpisode(Trials(judged.scores, judged.present), "", float(new))
