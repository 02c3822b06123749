"""The engine for one machine: episodes one after the other, each with the device to itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from attnbench.evaluation.evaluator import Evaluator
from attnbench.records.record import EpisodeResult
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.submission import Submission


@dataclass(frozen=True)
class Job:
    """One episode to judge.

    Attributes:
        timeout: seconds for one adaptation.
        cold: whether the adaptation is timed cold as well.
    """

    submission: Submission
    stimuli: TrackStimuli
    target: str
    seed: int
    timeout: float
    cold: bool


@dataclass(frozen=True)
class Finished:
    """What came of a job: the result, a score per test image, and what confined the workers."""

    job: Job
    result: EpisodeResult
    scores: pd.DataFrame
    confinement: tuple[str, ...]


def run_jobs(evaluator: Evaluator, jobs: Iterable[Job]) -> Iterator[Finished]:
    """Judge the jobs in their order, yielding each as it ends."""
    for job in jobs:
        episode = job.stimuli.episode(job.target, job.seed)
        result, scores = evaluator.judge(job.submission, episode, job.timeout, cold=job.cold)
        yield Finished(job, result, scores, evaluator.confinement)
