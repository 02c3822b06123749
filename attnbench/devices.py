"""Checking that a device is present before anything runs on it."""

from __future__ import annotations

import torch

from attnbench.errors import AttnbenchError
from attnbench.vocabulary import DEVICE_KINDS


def require_device(device: str) -> None:
    """Check that this machine has a device.

    Args:
        device: `cpu` or `cuda`.

    Raises:
        AttnbenchError: if the name is unknown, or if it is `cuda` and there is no GPU.
    """
    if device not in DEVICE_KINDS:
        raise AttnbenchError(f"unknown device {device!r}; choose cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise AttnbenchError("this machine has no CUDA device; use --device cpu")
