"""How much memory an adaptation takes above the backbone's.

    python -m benchmarks.studies.memory [SUBMISSION [BACKBONE [IMAGES_PER_SIDE]]]

The images come as a worker gets them, and nothing else has been computed before. Printed is the most
that was seen at any time, in MiB above what the process had with the backbone loaded: of memory of the
process's own, of files it had mapped, which the system can take back, and of all at once, with the
images, which are in memory that is shared.
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
from attnbench.wire.shared_images import mapped, shared
from attnbench.submission import load_submission
from tests.submissions.adapted import module_of

KINDS = {"RssAnon": "its own", "RssFile": "mapped files"}
EVERY_SECONDS = 0.02


def resident() -> dict[str, float]:
    """MiB in memory of this process, by kind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return {kind: int(values[kind].split()[0]) / 1024 for kind in KINDS} | {
        "VmRSS": int(values["VmRSS"].split()[0]) / 1024
    }


@contextmanager
def watched(
    read: Callable[[], dict[str, float]], every: float = EVERY_SECONDS
) -> Iterator[dict[str, float]]:
    """The most of each kind that was seen meanwhile, above what there was at first."""
    first = read()
    most = dict.fromkeys(first, 0.0)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(every):
            for kind, now in read().items():
                most[kind] = max(most[kind], now - first[kind])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join()


def main(name: str, network: str, per_side: int) -> None:
    backbone = load(network, untrained=network.startswith("torchvision/"))
    backbone.target = 3
    settings = load_submission(name).hyperparameters_for(backbone.name)
    adapt = module_of(name).adapt
    size = backbone.preprocessing.size
    draw = np.random.default_rng(0)
    sides = [draw.standard_normal((per_side, 3, size, size), np.float32) for _ in range(2)]
    sides[0][:, :, : size // 2] += 0.3  # there is something to learn
    shapes = [side.shape for side in sides]
    with shared(sides) as images:
        handed = os.dup(images)  # which `mapped` closes
    del sides
    torch.manual_seed(0)
    with watched(resident) as most:
        pos, neg = (torch.from_numpy(side) for side in mapped(handed, shapes))
        with suppress(KeyboardInterrupt):  # the first look at all images has seen the most
            adapt(backbone, pos, neg, **settings)
    told = ", ".join(f"{words} {most[kind]:,.0f}" for kind, words in KINDS.items())
    print(
        f"{name} on {network}, {per_side} + {per_side} images: {told}; at once {most['VmRSS']:,.0f}"
    )


if __name__ == "__main__":
    main(
        sys.argv[1] if len(sys.argv) > 1 else "attention",
        sys.argv[2] if len(sys.argv) > 2 else "shipped/figures-vgg",
        int(sys.argv[3]) if len(sys.argv) > 3 else 24,
    )
