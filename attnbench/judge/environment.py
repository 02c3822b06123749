"""The machine and the library versions that a record was measured with."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from attnbench.records.record import Environment
from attnbench.version import __version__


def describe_environment(device: str, confinement: tuple[str, ...]) -> Environment:
    """Describe the machine and its software, so that readers can judge times.

    Host and user names are left out.

    Args:
        device: `cpu` or `cuda`.
        confinement: names of the restrictions that the kernel enforced on workers.
    """
    return Environment(
        device_name=torch.cuda.get_device_name() if device == "cuda" else processor_name(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
        torchvision=version("torchvision"),
        numpy=np.__version__,
        attnbench=__version__,
        confinement=confinement,
    )


def processor_name() -> str:
    """Return the CPU's name with its family and model.

    On rented machines, different CPUs may report the same name.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    properties: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        properties.setdefault(key.strip(), value.strip())  # keeps the values of the first core
    kind = [
        f"{key.split()[-1]} {properties[key]}"
        for key in ("cpu family", "model")
        if key in properties
    ]
    name = properties.get("model name", platform.machine())
    return f"{name} ({', '.join(kind)})" if kind else name
