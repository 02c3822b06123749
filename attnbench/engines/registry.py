"""Creating an engine by its name."""

from __future__ import annotations

from pathlib import Path

from attnbench.engines.engine import Engine
from attnbench.errors import AttnbenchError
from attnbench.judge.resource_cache import ResourceCache
from attnbench.vocabulary import ENGINES


def create_engine(
    name: str, *, address: str | None, folder: Path, resources: ResourceCache
) -> Engine:
    """Return the engine of this name, after importing its library.

    Args:
        name: `local`, `ray` or `slurm`.
        address: the address of a Ray cluster; `local` runs Slurm's array tasks on this machine.
        folder: a folder on a file system that all machines of a Slurm cluster share.
        resources: the backbones and stimuli that this process has already loaded.

    Raises:
        AttnbenchError: for another name, or if the engine's library is not installed.
    """
    try:
        # Add a new engine here, and its name to `EngineName` in attnbench.vocabulary.
        match name:
            case "local":
                from attnbench.engines.local import Local

                return Local(resources)
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
    raise AttnbenchError(f"unknown engine {name!r}; the engines are {', '.join(ENGINES)}")
