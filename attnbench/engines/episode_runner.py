"""Judging jobs in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from attnbench.engines.engine import Job, UnusableImages
from attnbench.errors import AttnbenchError
from attnbench.judge.conditions import Conditions
from attnbench.judge.judge import Judge, open_judge
from attnbench.judge.resource_cache import ResourceCache

if TYPE_CHECKING:
    from attnbench.records.outcome import EpisodeOutcome


class EpisodeRunner:
    """Judges jobs, one after the other. See `open_runner`.

    Args:
        judge: an open judge.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def judge(self, job: Job) -> EpisodeOutcome | UnusableImages:
        """Judge a job. Raises AttnbenchError if its data set or its backbone cannot be opened."""
        evaluator = self._judge.evaluator(job.backbone)
        stimuli = self._judge.resources.stimuli(job.track, job.backbone)
        try:
            episode = stimuli.episode(job.target, job.identity.seed)
        except AttnbenchError as error:
            return UnusableImages(str(error))
        if job.timed is None:
            outcome = evaluator.judge(job.submission, episode, job.timeout, cold=job.cold)
        else:
            outcome = evaluator.time_again(
                job.submission, episode, job.timeout, job.timed, cold=job.cold
            )
        return outcome.as_contended() if self._shares_cpu else outcome

    @property
    def _shares_cpu(self) -> bool:
        """Whether other episodes run on the same CPU at the same time."""
        conditions = self._judge.conditions
        return conditions.device == "cpu" and conditions.sharing > 1


@contextlib.contextmanager
def open_runner(
    conditions: Conditions, resources: ResourceCache | None = None
) -> Iterator[EpisodeRunner]:
    """Open a judge and a runner that uses it. Arguments and errors are those of `open_judge`."""
    with open_judge(conditions, resources) as judge:
        yield EpisodeRunner(judge)
