"""The interface of an engine: it takes jobs, one per adaptation, and yields them as they complete.

Opening an engine under the conditions of a run gives a function that runs jobs. It takes jobs as it has
room, and yields each one once it has completed, in any order. If a process or a machine is lost
meanwhile, the run takes longer, but no job is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from attnbench.judge.conditions import Conditions

if TYPE_CHECKING:
    from attnbench.records.outcome import EpisodeOutcome
    from attnbench.records.record import EpisodeResult, Identity
    from attnbench.submission import Submission
    from attnbench.tasks import Track

# The memory that Ray and Slurm reserve for a runner and its workers. An allowance, not a measurement.
MEMORY_BYTES = 4 << 30


@dataclass(frozen=True)
class JobEpisode:
    """An episode of a job.

    Attributes:
        identity: the identity of the record that the episode belongs to.
        track: the definition of the task's track.
        timed: the earlier result, if the episode is only to be timed again; None to judge it.
    """

    identity: Identity
    track: Track
    timed: EpisodeResult | None = None


@dataclass(frozen=True)
class Job:
    """One adaptation, and the episodes that share it: to be judged, or only to be timed again.

    Attributes:
        episodes: one for each task that tests the detector. They have the same images to adapt on.
        submission: the submission to judge.
        backbone: the backbone, as `attnbench.backbones.load` takes it.
        target: the target of all episodes.
        seed: the seed of all episodes.
        timeout: seconds for one adaptation.
        cold: whether the adaptation is also timed in a cold process.
    """

    episodes: tuple[JobEpisode, ...]
    submission: Submission
    backbone: str
    target: str
    seed: int
    timeout: float
    cold: bool


@dataclass(frozen=True)
class UnusableImages:
    """An episode was not run, because its images cannot be used. This says nothing of the submission.

    Attributes:
        reason: such as the name of a damaged picture.
    """

    reason: str


# An outcome for each episode of a job, in their order.
Outcomes = Sequence["EpisodeOutcome | UnusableImages"]


@dataclass(frozen=True)
class CompletedJob:
    """A job and its outcomes."""

    job: Job
    outcomes: Outcomes


RunJobs = Callable[[Iterable[Job]], Generator[CompletedJob]]


class Engine(Protocol):
    """Runs many episodes."""

    def open(self, conditions: Conditions) -> AbstractContextManager[RunJobs]:
        """Start the engine. Leaving the context ends everything that it started.

        Args:
            conditions: the conditions of the run.

        Raises:
            AttnbenchError: if the conditions cannot be met.
        """
        ...
