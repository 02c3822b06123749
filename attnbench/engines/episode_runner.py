"""Judging jobs in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from attnbench.engines.engine import Job, JobEpisode, Outcomes, UnusableImages
from attnbench.errors import AttnbenchError
from attnbench.judge.conditions import Conditions
from attnbench.judge.judge import Judge, open_judge
from attnbench.judge.resource_cache import ResourceCache

if TYPE_CHECKING:
    from attnbench.judge.evaluator import Evaluator
    from attnbench.records.outcome import EpisodeOutcome
    from attnbench.stimuli.episode import Episode


class EpisodeRunner:
    """Judges jobs, one after the other. See `open_runner`.

    Args:
        judge: an open judge.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def judge(self, job: Job) -> Outcomes:
        """Judge a job. Raises AttnbenchError if a data set or the backbone cannot be opened."""
        evaluator = self._judge.evaluator(job.backbone)
        outcomes: dict[int, EpisodeOutcome | UnusableImages] = {}
        drawn: dict[int, Episode] = {}
        for number, wanted in enumerate(job.episodes):
            stimuli = self._judge.resources.stimuli(wanted.track, job.backbone)
            try:
                drawn[number] = _as_identified(stimuli.episode(job.target, job.seed), wanted)
            except AttnbenchError as error:
                outcomes[number] = UnusableImages(str(error))
        if drawn:
            judged = _judge(evaluator, job, drawn)
            if self._shares_cpu:
                judged = [outcome.as_contended() for outcome in judged]
            outcomes |= zip(drawn, judged, strict=True)
        return [outcomes[number] for number in range(len(job.episodes))]

    @property
    def _shares_cpu(self) -> bool:
        """Whether other episodes run on the same CPU at the same time."""
        conditions = self._judge.conditions
        return conditions.device == "cpu" and conditions.sharing > 1


def _as_identified(episode: Episode, wanted: JobEpisode) -> Episode:
    """Return an episode with the images that its record is of."""
    identity = wanted.identity
    if identity.images is not None:
        episode = episode.adapting_to(identity.images)
    return episode.tested_on_seen() if identity.seen else episode


def _judge(
    evaluator: Evaluator, job: Job, drawn: Mapping[int, Episode]
) -> Sequence[EpisodeOutcome]:
    """Judge or time the episodes of a job whose images can be used, by their number in the job."""
    episodes = list(drawn.values())
    earlier = [each for number in drawn if (each := job.episodes[number].timed) is not None]
    if not earlier:
        return evaluator.judge_all(job.submission, episodes, job.timeout, cold=job.cold)
    return evaluator.time_again(job.submission, episodes, job.timeout, earlier, cold=job.cold)


@contextlib.contextmanager
def open_runner(
    conditions: Conditions, resources: ResourceCache | None = None
) -> Iterator[EpisodeRunner]:
    """Open a judge and a runner that uses it. Arguments and errors are those of `open_judge`."""
    with open_judge(conditions, resources) as judge:
        yield EpisodeRunner(judge)
