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
        device_name=torch.cuda.get_device_name() if device == "cuda" else processor_name(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
        torchvision=version("torchvision"),
        numpy=np.__version__,
        attnbench=attnbench.__version__,
        confinement=confinement,
    )


def processor_name() -> str:
    """The processor's name, its family and model: machines to rent may all have one name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    said: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        said.setdefault(key.strip(), value.strip())  # of the first core
    kind = [f"{key.split()[-1]} {said[key]}" for key in ("cpu family", "model") if key in said]
    name = said.get("model name", platform.machine())
    return f"{name} ({', '.join(kind)})" if kind else name
