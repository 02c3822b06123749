"""What an engine is: it is given jobs, one for each episode, and yields what came of them.

The words are those of `concurrent.futures`, where an executor is given calls. An engine is opened for
the conditions of a run; what that gives is called with jobs, takes them as it has room, and yields
each as it ends, in whatever order. That it loses a process or a machine shows in the time alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from attnbench.errors import AttnbenchError
from attnbench.evaluation.isolation import Isolation
from attnbench.materials import Materials

if TYPE_CHECKING:
    from attnbench.records.record import EpisodeResult, Identity
    from attnbench.records.store import Measured
    from attnbench.submission import Submission
    from attnbench.tasks import Track

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Conditions:
    """What all episodes of a run have in common.

    Attributes:
        device: where detectors are adapted and used.
        isolation: of the workers.
        hidden: files and folders that no worker may see.
        data: the data folder, or None for the hub.
        untrained: whether backbones have the weights they are initialised with.
        workers: how many episodes run at a time, in all; None for as many as the engine has devices.
        threads: processor cores that each of them has; None for a fair share.
        at_once: how many share a machine.
    """

    device: Device = "cpu"
    isolation: Isolation = "process"
    hidden: tuple[Path, ...] = ()
    data: Path | None = None
    untrained: bool = False
    workers: int | None = None
    threads: int | None = None
    at_once: int = 1


@dataclass(frozen=True)
class Needs:
    """What an episode has to be given on a machine that others use too.

    Attributes:
        cores: of the processor.
        gpus: 1 where it runs on one.
        memory_bytes: of memory, for the evaluator and its workers.
    """

    cores: int
    gpus: int
    memory_bytes: int


@dataclass(frozen=True)
class Job:
    """One episode: to judge, or only to time once more.

    Attributes:
        identity: of the record that it is for.
        submission: what is judged.
        track: the definition of the task's track.
        target: the episode's.
        timeout: seconds for one adaptation.
        cold: whether the adaptation is timed cold as well.
        modules: what workers of this run need beside torch, by name.
        again: where only the times are wanted, what was measured before.
    """

    identity: Identity
    submission: Submission
    track: Track
    target: str
    timeout: float
    cold: bool
    modules: tuple[str, ...]
    again: EpisodeResult | None = None


@dataclass(frozen=True)
class Finished:
    """A job, and what came of it."""

    job: Job
    measured: Measured


Run = Callable[[Iterable[Job]], Generator[Finished]]


class Engine(Protocol):
    """Runs many episodes."""

    def open(self, conditions: Conditions) -> AbstractContextManager[Run]:
        """Begin; leaving the context ends all that was started.

        Raises:
            AttnbenchError: where there is not what the conditions ask for.
        """
        ...


def needs_of(conditions: Conditions, cores: int) -> Needs:
    """What to ask a cluster for."""
    return Needs(cores, int(conditions.device == "cuda"), _MEMORY_BYTES)


# For an evaluator, its template and their workers: what Ray and Slurm reserve; not measured.
_MEMORY_BYTES = 4 << 30


def engine_named(name: str, *, address: str | None, folder: Path, materials: Materials) -> Engine:
    """The engine of this name, its library imported.

    Args:
        name: `local`, `ray` or `slurm`.
        address: of a Ray cluster; `local` runs Slurm's jobs on this machine.
        folder: on a file system that all machines of a Slurm cluster share.
        materials: what this process has loaded, for an engine that judges in it.

    Raises:
        AttnbenchError: for another name, or where its library is not installed.
    """
    try:
        match name:
            case "local":
                from attnbench.engines.local import Local

                return Local(materials)
            case "ray":
                from attnbench.engines.ray import Ray

                return Ray(address)
            case "slurm":
                from attnbench.engines.slurm import Slurm

                return Slurm(folder, address)
    except ModuleNotFoundError as missing:
        raise AttnbenchError(
            f"the {name} engine needs {missing.name}: pip install 'attnbench[{name}]'"
        ) from None
    raise AttnbenchError(f"unknown engine {name!r}; the engines are local, ray and slurm")
