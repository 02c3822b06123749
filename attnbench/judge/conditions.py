"""The conditions that all episodes of a run have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attnbench.vocabulary import DeviceKind, IsolationLevel


@dataclass(frozen=True)
class Conditions:
    """How a run judges its episodes.

    Attributes:
        device: where detectors are adapted and used.
        isolation: how workers are isolated.
        modules: what the run's submissions import besides torch; imported once for all workers.
        hidden: files and folders that no worker may see. The data folder is always hidden.
        data: the data folder, or None for the hub.
        untrained: leave the weights of backbones as initialised.
        workers: how many episodes run at a time in total; None for one per device of the engine.
        threads: CPU threads of each episode; None for an equal share.
        sharing: how many episodes share a machine.
    """

    device: DeviceKind = "cpu"
    isolation: IsolationLevel = "process"
    modules: tuple[str, ...] = ()
    hidden: tuple[Path, ...] = ()
    data: Path | None = None
    untrained: bool = False
    workers: int | None = None
    threads: int | None = None
    sharing: int = 1
