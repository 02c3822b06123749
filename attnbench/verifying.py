"""`attnbench.verify`: runs a record's episodes again and says whether its figures hold."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attnbench.backbones import fingerprint
from attnbench.evaluation.environment import describe_environment
from attnbench.evaluation.evaluator import Evaluator
from attnbench.evaluation.neighbours import Neighbours
from attnbench.evaluation.prediction import disagreeing
from attnbench.evaluation.warm import Template
from attnbench.materials import Materials
from attnbench.records.integrity import contradictions, read_scores
from attnbench.records.record import EpisodeResult, Record
from attnbench.records.store import RecordStore, write_atomically
from attnbench.records.verification import Verification, fingerprint_of, path_beside
from attnbench.runs.planning import require_device
from attnbench.stimuli.episodes import Episode
from attnbench.submission import Submission, load_submission
from attnbench.tasks import TaskDefinition, load_task

# Other threads and versions round otherwise, and training carries that on: so many scores may be
# others, and d′ may move by so much.
_OTHER_SCORES, _D_PRIME = 0.02, 0.1
# Another device may compute frozen parts in another precision (see `quick_outputs`): scores have to
# correlate so well, and d′ may move by so much, which is a few images where it is high.
_CORRELATION_ELSEWHERE, _D_PRIME_ELSEWHERE = 0.999, 0.25
# In passes, times of different machines can be compared, within this factor and this many seconds.
_TIME_FACTOR, _TIME_SECONDS = 3.0, 0.1
# A time that is further off is taken so many times more: other work makes it longer, none shorter.
_TIMES_MORE = 2
# And where others took more than this share of the processors each time, it says nothing.
_QUIET = 0.1


def verify(
    record: Path,
    *,
    sample: int | None = None,
    submission: str | Path | None = None,
    data: Path | None = None,
) -> Verification:
    """Run a record's episodes again, compare, and keep what was found beside the record.

    Args:
        record: its JSON; the scores lie beside it.
        sample: run so many of its targets again, chosen by chance; all by default.
        submission: the folder of the submission; by default the one of its name, here or shipped.
        data: the data folder, as for `attnbench.evaluate`.

    Raises:
        AttnbenchError: where the record cannot be read, or submission, task or data are not there.
    """
    path = record
    found = RecordStore(path.parent).read(path)
    identity = found.identity
    require_device(identity.device)
    chosen = load_submission(submission or _by_name(identity.submission))
    task = load_task(identity.task)
    materials = Materials(data, untrained=identity.untrained)
    backbone = materials.backbone(identity.backbone)
    problems = contradictions(path, found)
    problems += _other_versions(found, chosen, task, fingerprint(backbone))
    unsettled: list[str] = []
    targets: list[str] = []
    confinement: tuple[str, ...] = ()
    if not problems:
        track = task.tracks[identity.track]
        stimuli = materials.stimuli(track, identity.backbone)
        recorded = {episode.target: episode for episode in found.episodes}
        targets = [target for target in stimuli.targets if target in recorded]
        if sample is not None:
            drawn = random.SystemRandom().sample(targets, min(sample, len(targets)))
            targets = [target for target in targets if target in drawn]
        scores = read_scores(path, found)
        here = describe_environment(identity.device, ()).device_name
        elsewhere = found.environment.device_name != here
        hidden = [path.parent] if data is None else [path.parent, data]
        with Template(identity.isolation, hidden=hidden, data=data) as template:
            template.import_modules(chosen.modules)
            evaluator = Evaluator(
                backbone, template, device=identity.device, untrained=identity.untrained
            )
            for target in targets:
                episode = stimuli.episode(target, identity.seed)
                again = _judged_again(evaluator, chosen, episode, track.timeout, recorded[target])
                then = scores[scores["target"] == target]
                problems += [
                    f"{target}: {each}"
                    for each in _differences(
                        recorded[target], then, again.result, again.scores, elsewhere=elsewhere
                    )
                ]
                if slower := _slower(recorded[target], again.result):
                    (unsettled if again.disturbed else problems).append(f"{target}: {slower}")
            confinement = evaluator.confinement
    outcome = Verification(
        record_sha256=fingerprint_of(path),
        targets=tuple(targets),
        problems=tuple(each[:1000] for each in problems[:1000]),
        unsettled=tuple(each[:1000] for each in unsettled[:1000]),
        environment=describe_environment(identity.device, confinement),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_atomically(path_beside(path), outcome.model_dump_json(indent=1).encode(), path.parent)
    return outcome


@dataclass(frozen=True)
class _Again:
    """An episode judged again; `disturbed` where its times were taken beside other work only."""

    result: EpisodeResult
    scores: pd.DataFrame
    disturbed: bool


def _judged_again(
    evaluator: Evaluator,
    submission: Submission,
    episode: Episode,
    timeout: float,
    recorded: EpisodeResult,
) -> _Again:
    """Judge an episode again, and time it more often where it seems slower than recorded."""
    watched = Neighbours()
    result, scores = evaluator.judge(submission, episode, timeout, cold=False)
    disturbed = watched.share() > _QUIET
    for _ in range(_TIMES_MORE):
        if _slower(recorded, result) is None:
            break
        watched = Neighbours()
        result, _scores = evaluator.time_again(submission, episode, timeout, result, cold=False)
        disturbed &= watched.share() > _QUIET
    return _Again(result, scores, disturbed)


def _by_name(name: str) -> str | Path:
    here = Path("submissions", name)
    return here if here.is_dir() else name


def _other_versions(
    record: Record, submission: Submission, task: TaskDefinition, backbone_sha256: str
) -> Iterator[str]:
    identity = record.identity
    if submission.sha256 != identity.submission_sha256:
        yield f"the submission in {submission.folder} is another version than the recorded one"
    if task.content_hash != identity.task_sha256 or identity.track not in task.tracks:
        yield f"the task {task.name} is another version than the recorded one"
    elif {episode.target for episode in record.episodes} < set(_named(task, identity.track)):
        yield "targets of the task are missing from the record"
    if backbone_sha256 != identity.backbone_sha256:
        yield f"the weights of {identity.backbone} are others than the recorded ones"


def _named(task: TaskDefinition, track: str) -> tuple[str, ...]:
    targets = task.tracks[track].targets  # type: ignore[index]
    return () if isinstance(targets, str) else targets


def _differences(
    recorded: EpisodeResult,
    then: pd.DataFrame,
    result: EpisodeResult,
    now: pd.DataFrame,
    *,
    elsewhere: bool,
) -> Iterator[str]:
    """What but times came out otherwise than recorded, beyond what rounding or precision explains.

    Args:
        recorded, then: a record's episode, and its scores.
        result, now: the same run again.
        elsewhere: on another kind of device.
    """
    if recorded.images_sha256 != result.images_sha256:
        yield "the images are others"
        return
    if recorded.status != result.status:
        yield f"recorded as {recorded.status}, now {result.status} {result.reason}".rstrip()
        return
    if recorded.measures is None or result.measures is None:
        return
    assert recorded.cost is not None and result.cost is not None
    first, again = then["score"].to_numpy(float), now["score"].to_numpy(float)
    if list(then["image"]) != list(now["image"]) or list(then["present"]) != list(now["present"]):
        yield "the scores are of other images"
    elif others := _other_scores(first, again, elsewhere=elsewhere):
        yield others
    moved = abs(recorded.measures.d_prime - result.measures.d_prime)
    if moved > (_D_PRIME_ELSEWHERE if elsewhere else _D_PRIME):
        yield f"d′ recorded {recorded.measures.d_prime:.2f}, now {result.measures.d_prime:.2f}"
    for name in ("parameters_added", "parameters_changed"):
        was, is_now = getattr(recorded.cost, name), getattr(result.cost, name)
        if was != is_now:
            yield f"{name} recorded {was:,}, now {is_now:,}"


def _other_scores(
    first: NDArray[np.float64], again: NDArray[np.float64], *, elsewhere: bool
) -> str | None:
    """What to say of scores `[n]` that do not agree with those recorded."""
    others = disagreeing(first, again, first)
    if others <= _OTHER_SCORES * len(first):
        return None
    if elsewhere and first.std() > 0 and again.std() > 0:
        correlation = float(np.corrcoef(first, again)[0, 1])
        if correlation >= _CORRELATION_ELSEWHERE:
            return None
        return f"scores correlate with those recorded by {correlation:.4f} only"
    return f"{others} of {len(first)} scores are others"


def _slower(recorded: EpisodeResult, result: EpisodeResult) -> str | None:
    """What to say of an adaptation that takes much longer than recorded, alone on its device."""
    if recorded.cost is None or result.cost is None or recorded.cost.contended:
        return None
    was, is_now = (
        each.adaptation_seconds / each.pass_seconds for each in (recorded.cost, result.cost)
    )
    slower = (is_now - was) * result.cost.pass_seconds
    if is_now > _TIME_FACTOR * was and slower > _TIME_SECONDS:
        return f"adaptation recorded as {was:.2f} passes, now {is_now:.2f}"
    return None
