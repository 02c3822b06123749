"""The memory that an adaptation takes in addition to the backbone.

    python -m benchmarks.studies.memory [SUBMISSION [BACKBONE [IMAGES_PER_CLASS]]]

Images are passed as they are to a worker, in shared memory, and nothing has been computed before.
Printed are peaks in MiB above the process with the backbone loaded. They are those of its private
memory, of mapped files, which the system can reclaim, and of everything together with the images.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

from attnbench.backbones import load
from attnbench.submission import load_submission
from attnbench.wire.shared_images import map_private, published
from tests.submissions.adapted import load_program

KINDS = {"RssAnon": "private", "RssFile": "mapped files"}
INTERVAL_SECONDS = 0.02


def resident_mebibytes() -> dict[str, float]:
    """Return the resident memory of this process by kind, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return {kind: int(values[kind].split()[0]) / 1024 for kind in (*KINDS, "VmRSS")}


@contextmanager
def peaks(
    read: Callable[[], dict[str, float]], interval: float = INTERVAL_SECONDS
) -> Iterator[dict[str, float]]:
    """Yield a dictionary with the peaks of some quantities above their first values.

    Args:
        read: returns the quantities.
        interval: seconds between two readings.
    """
    first = read()
    highest = dict.fromkeys(first, 0.0)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(interval):
            for kind, value in read().items():
                highest[kind] = max(highest[kind], value - first[kind])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield highest
    finally:
        ended.set()
        watcher.join()


def main(name: str, network: str, per_class: int) -> None:
    """Run one adaptation and print its peaks."""
    backbone = load(network, untrained=network.startswith("torchvision/"))
    backbone.target = 3
    hyperparameters = load_submission(name).hyperparameters_for(backbone.name)
    adapt = load_program(name).adapt
    size = backbone.preprocessing.size
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((per_class, 3, size, size), np.float32) for _ in range(2)]
    arrays[0][:, :, : size // 2] += 0.3  # so that there is something to learn
    shapes = [array.shape for array in arrays]
    with published(arrays) as descriptor:
        duplicate = os.dup(descriptor)  # closed by `map_private`
    del arrays
    torch.manual_seed(0)
    with peaks(resident_mebibytes) as highest:
        pos, neg = (torch.from_numpy(array) for array in map_private(duplicate, shapes))
        # May be interrupted: memory is highest in the first pass over all images.
        with suppress(KeyboardInterrupt):
            adapt(backbone, pos, neg, **hyperparameters)
    details = ", ".join(f"{label} {highest[kind]:,.0f}" for kind, label in KINDS.items())
    print(
        f"{name} on {network}, {per_class} + {per_class} images, MiB: {details}; "
        f"everything {highest['VmRSS']:,.0f}"
    )


if __name__ == "__main__":
    main(
        sys.argv[1] if len(sys.argv) > 1 else "attention",
        sys.argv[2] if len(sys.argv) > 2 else "shipped/figures-vgg",
        int(sys.argv[3]) if len(sys.argv) > 3 else 24,
    )
