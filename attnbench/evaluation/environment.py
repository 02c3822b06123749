"""The machine and the versions a record was measured with."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import attnbench
from attnbench.records.record import Environment


def describe_environment(device: str, confinement: tuple[str, ...]) -> Environment:
    """What a reader needs to judge a time: device, threads, versions; no host or user name."""
    return Environment(
        device_name=torch.cuda.get_device_name() if device == "cuda" else _processor(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
        torchvision=version("torchvision"),
        numpy=np.__version__,
        attnbench=attnbench.__version__,
        confinement=confinement,
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
