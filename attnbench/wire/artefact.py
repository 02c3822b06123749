"""The artefact as it travels: byte strings that the judge counts and that a worker loads.

An artefact holds everything a detector has beyond the backbone it was given. The sandbox packs and
unpacks it (`attnbench.sandbox.packing`, `attnbench.sandbox.unpacking`). The judge counts its
parameters from the bytes alone (`attnbench.judge.parameter_count`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Artefact:
    """A packed detector.

    Attributes:
        structure: a pickle of the detector's objects. Tensors, arrays and unchanged backbone modules
            appear in it by name only. Only a worker unpickles it.
        tensors: a safetensors file. `added/3` is a tensor of the detector's own;
            `changed/head.weight` replaces a tensor of the backbone.
        reachable_state: concatenated pickles of the values in the detector's classes and functions:
            class attributes, defaults, closures and globals. It is only counted. A worker that
            predicts gets this state from the submission's source instead.
    """

    structure: bytes
    tensors: bytes
    reachable_state: bytes = b""

    @property
    def arrays(self) -> dict[str, NDArray[np.uint8]]:
        """Its parts as uint8 arrays, for a message."""
        return {
            part.name: np.frombuffer(getattr(self, part.name), np.uint8) for part in fields(self)
        }

    @property
    def sha256(self) -> str:
        """The SHA-256 (hex) of its parts, each after its length."""
        digest = hashlib.sha256()
        for part in fields(self):
            content: bytes = getattr(self, part.name)
            digest.update(len(content).to_bytes(8, "little") + content)
        return digest.hexdigest()

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Artefact:
        """Return the artefact in a message.

        Args:
            arrays: the message's arrays by name.

        Raises:
            KeyError: with the name of a missing part.
        """
        return cls(*(arrays[part.name].tobytes() for part in fields(cls)))
