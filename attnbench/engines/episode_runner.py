"""Judging jobs in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from attnbench.engines.engine import Job
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

    def judge(self, job: Job) -> EpisodeOutcome:
        """Judge a job. Raises AttnbenchError if its images or its backbone cannot be loaded."""
        evaluator = self._judge.evaluator(job.backbone)
        stimuli = self._judge.resources.stimuli(job.track, job.backbone)
        episode = stimuli.episode(job.target, job.identity.seed)
        if job.timed is None:
            outcome = evaluator.judge(job.submission, episode, job.timeout, cold=job.cold)
        else:
            outcome = evaluator.time_again(
                job.submission, episode, job.timeout, job.timed, cold=job.cold
            )
        return outcome.with_contention(self._is_contended)

    @property
    def _is_contended(self) -> bool:
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
