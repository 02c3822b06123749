"""The conditions that all episodes of a run have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attnbench.vocabulary import DeviceKind, IsolationLevel


@dataclass(frozen=True)
class Conditions:
    """How a run judges its episodes.

    Attributes:
        device: the kind of device that detectors are adapted and used on.
        isolation: how workers are isolated.
        modules: modules that submissions import besides torch; imported once for all workers.
        hidden: files and folders that no worker may see. The data folder is always hidden.
        data: the data folder, or None for the hub.
        backbone_files: files of backbones of the user's own (see
            `attnbench.backbones.own_file.files_of`).
        untrained: whether to leave the weights of backbones as initialised.
        workers: how many episodes run at a time in total; None for one per device of the engine.
        threads: CPU threads of each episode; None for an equal share.
        sharing: how many episodes share a machine.
    """

    device: DeviceKind = "cpu"
    isolation: IsolationLevel = "process"
    modules: tuple[str, ...] = ()
    hidden: tuple[Path, ...] = ()
    data: Path | None = None
    backbone_files: tuple[Path, ...] = ()
    untrained: bool = False
    workers: int | None = None
    threads: int | None = None
    sharing: int = 1
