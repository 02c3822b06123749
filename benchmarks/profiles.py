"""Where the time of each shipped method goes: the table of docs/performance.md.

    python benchmarks/profiles.py [BACKBONE [IMAGES_PER_SIDE]]

Shares of one adaptation by functions of `attnbench.adaptation`, from Python's own profiler. What a
function calls counts as its own.
"""

from __future__ import annotations

import copy
import cProfile
import pstats
import sys
import time

import torch

from attnbench import NotApplicable
from attnbench.adaptation import features, fit, gauss_newton, solve
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.resources import submissions_folder
from attnbench.submission import MANIFEST, load_submission
from tests.submissions.adapted import images, module_of

PARTS = {
    "frozen part": features._until_little_is_left,
    "fit": fit,
    "solve": solve,
    "gauss_newton": gauss_newton,
}


def profile(name: str, backbone: Backbone, per_side: int) -> tuple[float, dict[str, float]]:
    """Seconds of one adaptation, and the share of each part; the second of two counts."""
    settings = load_submission(name).hyperparameters_for(backbone.name)
    adapt = module_of(name).adapt
    for _ in range(2):
        network = copy.deepcopy(backbone)
        pos, neg = images(backbone, per_side)
        torch.manual_seed(0)
        profiler = cProfile.Profile()
        started = time.perf_counter()
        profiler.runcall(adapt, network, pos, neg, **settings)
        seconds = time.perf_counter() - started
    spent = {
        (file, function): cumulative
        for (file, _, function), (_, _, _, cumulative, _) in pstats.Stats(profiler).stats.items()  # type: ignore[attr-defined]
    }
    shares = {
        part: spent.get((function.__code__.co_filename, function.__name__), 0.0) / seconds
        for part, function in PARTS.items()
    }
    return seconds, shares


def main(network: str, per_side: int) -> None:
    backbone = load(network, untrained=network.startswith("torchvision/"))
    backbone.target = 3
    print(f"| on {network}, {per_side} + {per_side} images | ms |", " | ".join(PARTS), "| else |")
    print("|---|---|" + "---|" * (len(PARTS) + 1))
    for folder in sorted(path.parent for path in submissions_folder().glob(f"*/{MANIFEST}")):
        try:
            seconds, shares = profile(folder.name, backbone, per_side)
        except NotApplicable:
            continue
        cells = [f"{share:.0%}" if share else "" for share in shares.values()]
        rest = max(0.0, 1 - sum(shares.values()))
        print(f"| `{folder.name}` | {1000 * seconds:.0f} |", " | ".join(cells), f"| {rest:.0%} |")


if __name__ == "__main__":
    main(
        sys.argv[1] if len(sys.argv) > 1 else "shipped/figures-vgg",
        int(sys.argv[2]) if len(sys.argv) > 2 else 24,
    )
