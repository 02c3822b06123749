"""The interface of an engine: it takes jobs, one per episode, and yields them as they complete.

Opening an engine under the conditions of a run gives a function that runs jobs. It takes jobs as it has
room, and yields each one once it has completed, in any order. If a process or a machine is lost
meanwhile, the run takes longer, but no job is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
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
class Job:
    """One episode, to be judged or only to be timed again.

    Attributes:
        identity: the identity of the record that the episode belongs to.
        submission: the submission to judge.
        track: the definition of the task's track.
        backbone: the backbone, as `attnbench.backbones.load` takes it.
        target: the episode's target.
        timeout: seconds for one adaptation.
        cold: whether the adaptation is also timed in a cold process.
        timed: the earlier result, if the episode is only to be timed again; None to judge it.
    """

    identity: Identity
    submission: Submission
    track: Track
    backbone: str
    target: str
    timeout: float
    cold: bool
    timed: EpisodeResult | None = None


@dataclass(frozen=True)
class UnusableImages:
    """An episode was not run, because its images cannot be used. This says nothing of the submission.

    Attributes:
        reason: such as the name of a damaged picture.
    """

    reason: str


@dataclass(frozen=True)
class CompletedJob:
    """A job and its outcome."""

    job: Job
    outcome: EpisodeOutcome | UnusableImages


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
