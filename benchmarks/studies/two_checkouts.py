"""How long adaptation takes with two versions of attnbench, measured in turn.

    python -m benchmarks.studies.two_checkouts OLD NEW [SUBMISSION…] [--backbone NAME] [--rounds N]

OLD and NEW are folders with a checkout of attnbench each. In each round, each checkout runs in a new
process: a pass of the backbone over 64 + 64 images without gradients, in batches of 8, and then each
submission's `adapt`. Weights are as initialised. Printed is a table in Markdown: the median seconds
of each checkout with their range, and the median ratio NEW / OLD within a round with its range.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

IMAGES_PER_CLASS = 64
BATCH_SIZE = 8

Seconds = dict[str, float]


def time_here(submissions: Sequence[str], backbone_name: str) -> Seconds:
    """Time a pass and the adaptations with the attnbench that this process imports."""
    import attnbench
    from attnbench.backbones import load
    from attnbench.submission import load_submission

    # An installed attnbench must not stand in for a checkout's.
    assert Path(attnbench.__file__).is_relative_to(Path.cwd()), attnbench.__file__
    backbone = load(backbone_name, untrained=True)
    backbone.target = 3
    size = backbone.preprocessing.size
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2 * IMAGES_PER_CLASS, 3, size, size, generator=generator)
    pos, neg = images[:IMAGES_PER_CLASS] + 0.3, images[IMAGES_PER_CLASS:]

    def run_pass() -> None:
        with torch.no_grad():
            for batch in images.split(BATCH_SIZE):
                backbone(batch)

    with torch.no_grad():
        backbone(images[:BATCH_SIZE])
    seconds = {"a pass": seconds_of(run_pass)}
    for name in submissions:
        submission = load_submission(Path("submissions", name))
        spec = importlib.util.spec_from_file_location(name, submission.folder / "submission.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        hyperparameters = submission.hyperparameters_for(backbone_name)
        torch.manual_seed(0)
        seconds[name] = seconds_of(
            lambda adapt=module.adapt, given=hyperparameters: adapt(backbone, pos, neg, **given)
        )
    return seconds


# Not that of `benchmarks.rounds`: this file runs beside checkouts whose benchmarks may differ.
def seconds_of(function: Callable[[], object]) -> float:
    """Return how long a call takes, in seconds."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def time_checkout(checkout: Path, submissions: Sequence[str], backbone: str) -> Seconds:
    """Run this file in a new process that imports attnbench from a checkout."""
    script = str(Path(__file__).resolve())
    outcome = subprocess.run(
        [sys.executable, script, "--here", "--backbone", backbone, ".", ".", *submissions],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds: Seconds = json.loads(outcome.stdout.splitlines()[-1])
    return seconds


def table(old: Sequence[Seconds], new: Sequence[Seconds]) -> str:
    """Return the seconds of both checkouts and their ratio as a table in Markdown."""
    lines = ["| | old, s | new, s | new / old |", "|---|---|---|---|"]
    for name in old[0]:
        before, after = ([seconds[name] for seconds in side] for side in (old, new))
        ratios = [late / early for early, late in zip(before, after, strict=True)]
        cells = " | ".join(_median_and_range(values) for values in (before, after, ratios))
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def _median_and_range(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main() -> None:
    """Time two checkouts in turn and print the table, or only the version that is imported here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("submissions", nargs="*", default=["attention", "linear_probe"])
    parser.add_argument("--backbone", default="torchvision/vgg16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(time_here(options.submissions, options.backbone)))
        return
    old: list[Seconds] = []
    new: list[Seconds] = []
    for turn in range(options.rounds):
        # Which one goes first alternates, so that a drift of the machine favours neither.
        sides = [(options.old, old), (options.new, new)]
        for checkout, times in sides if turn % 2 == 0 else reversed(sides):
            times.append(time_checkout(checkout, options.submissions, options.backbone))
            print(f"round {turn + 1}, {checkout}: {times[-1]}", file=sys.stderr)
    print(table(old, new))


if __name__ == "__main__":
    main()
