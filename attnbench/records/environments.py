"""Merging the environments of a record's episodes."""

from __future__ import annotations

from collections.abc import Sequence

from attnbench.records.record import Environment


def merge_environments(environments: Sequence[Environment]) -> Environment:
    """Merge the environments of a record's episodes, which may have run on several machines.

    If names or versions differ, all of them are listed. The number of threads is the smallest one. The
    confinement is what all environments have in common.

    Args:
        environments: at least one.
    """
    dumps = [environment.model_dump() for environment in environments]
    texts = ("device_name", "python", "torch", "torchvision", "numpy", "attnbench")
    joined = {name: ", ".join(sorted({dump[name] for dump in dumps})) for name in texts}
    common = set.intersection(*(set(environment.confinement) for environment in environments))
    return environments[0].model_copy(
        update=joined
        | {
            "threads": min(environment.threads for environment in environments),
            "confinement": tuple(layer for layer in environments[0].confinement if layer in common),
        }
    )
