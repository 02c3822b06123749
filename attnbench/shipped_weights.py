"""The fingerprints of the shipped networks, computed without importing torch."""

from __future__ import annotations

import hashlib

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from attnbench.resources import weights_folder

_PREFIX = "shipped/"


def shipped_fingerprint(backbone: str) -> str | None:
    """Return what `attnbench.backbones.fingerprint` gives for a shipped network with its weights.

    Torch takes seconds to import. A run whose records all exist needs no more of a backbone than this.

    Args:
        backbone: its name, such as `shipped/figures-vgg`.

    Returns:
        The SHA-256 (hex). None for another backbone, or if its weights cannot be read.
    """
    if not backbone.startswith(_PREFIX):
        return None
    try:
        tensors = load_file(weights_folder() / f"{backbone.removeprefix(_PREFIX)}.safetensors")
    except (OSError, SafetensorError):
        return None
    digest = hashlib.sha256()
    for name, values in sorted(tensors.items()):
        if values.dtype == np.float16:  # to save space: the networks compute in float32
            values = values.astype(np.float32)
        digest.update(f"{name} torch.{values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
