"""The effect of each choice in the timing protocol on this machine: the tables in docs/timing.md.

python -m benchmarks.studies.timing_protocol [cpu|cuda]
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

from attnbench.backbones import load
from attnbench.commands.check import DEFAULT_BACKBONE, noise_episode
from attnbench.judge.conditions import Conditions
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.judge import open_judge
from attnbench.records.record import Cost
from attnbench.statistics.intervals import median_interval
from attnbench.submission import SOURCE, Submission, load_submission
from attnbench.vocabulary import DEVICE_KINDS, DeviceKind

REPEATS = 30
REHEARSED = ("attention", "last_layer", "linear_probe", "adapter", "full_finetune")

# Added to a submission, this has it rehearse on the first few images only.
ONLY_A_FEW_IMAGES = """

_adapt = adapt


def adapt(backbone, pos, neg, **hyperparameters):
    # A rehearsal has noise, whose 64 images are 8 images in turn.
    few = 8 if (pos[:8] == pos[8:16]).all() else len(pos)
    return _adapt(backbone, pos[:few], neg[:few], **hyperparameters)
"""

BUSY_PROGRAM = """
import os, sys, torch
parent = os.getppid()
a = torch.randn(2000, 2000, device=sys.argv[1])
print("busy", flush=True)
while os.getppid() == parent:  # not for ever, if the parent is killed
    a = a @ a.T
    a /= a.norm()
"""


@contextlib.contextmanager
def busy_process(device: str) -> Iterator[None]:
    """Run another process that multiplies matrices as fast as possible."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY_PROGRAM, device], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


def costs(
    evaluator: Evaluator,
    repeats: int,
    *,
    submission: Submission | None = None,
    cold: bool = True,
    seconds: float = math.inf,
) -> list[Cost]:
    """Return the costs of repeated adaptations to the same images, without those of the first.

    Args:
        evaluator: its backbone is `DEFAULT_BACKBONE`.
        repeats: how many to return, at most.
        submission: what adapts; `attention` by default.
        cold: whether to time an adaptation in a process that has not rehearsed, too.
        seconds: return fewer costs, but at least one, if others would take longer.
    """
    submission = submission or load_submission("attention")
    episode = noise_episode(load(DEFAULT_BACKBONE), per_class=24)
    started = time.perf_counter()
    first = evaluator.judge(submission, episode, 300.0, cold=cold).result
    assert first.cost is not None, first.reason
    measured: list[Cost] = []
    while len(measured) < repeats:
        began = time.perf_counter()
        (outcome,) = evaluator.time_again(submission, [episode], 300.0, [first], cold=cold)
        assert outcome.result.cost is not None, outcome.result.reason
        measured.append(outcome.result.cost)
        ended = time.perf_counter()
        if ended + (ended - began) > started + seconds:
            break
    return measured


def rehearsal_ratios(evaluator: Evaluator, name: str, repeats: int) -> list[float]:
    """Return adaptation times after a rehearsal with 8 images per class only, over those with all."""
    all_images = load_submission(name)
    source = all_images.files[SOURCE] + ONLY_A_FEW_IMAGES.encode()
    few_images = dataclasses.replace(all_images, files={**all_images.files, SOURCE: source})
    episode = noise_episode(load(DEFAULT_BACKBONE), per_class=64)
    ratios = []
    for _ in range(repeats):
        seconds = []
        for submission in (few_images, all_images):
            result = evaluator.judge(submission, episode, 300.0, cold=False).result
            assert result.cost is not None, result.reason
            seconds.append(result.cost.adaptation_seconds)
        ratios.append(seconds[0] / seconds[1])
    return ratios


def row(label: str, values: list[float], factor: float, form: str) -> str:
    """Return a table row with the median and its interval, multiplied by a factor."""
    median, low, high = (f"{value * factor:{form}}" for value in median_interval(values))
    return f"| {label} | {median} | {low} to {high} |"


def main(device: DeviceKind) -> None:
    """Print the tables."""
    modules = load_submission("attention").modules
    with open_judge(Conditions(device=device, modules=modules)) as judge:
        evaluator = judge.evaluator(DEFAULT_BACKBONE)
        undisturbed = costs(evaluator, REPEATS)
        with busy_process(device):
            disturbed = costs(evaluator, REPEATS // 2)
        ratios = {name: rehearsal_ratios(evaluator, name, REPEATS // 2) for name in REHEARSED}
    print("| `attention`, 24 + 24 noise images | median | 95 % interval |")
    print("|---|---|---|")
    for suffix, measured in (("", undisturbed), (", beside a second job", disturbed)):
        cold = [cost.adaptation_seconds_cold or 0.0 for cost in measured]
        print(row(f"warm, ms{suffix}", [cost.adaptation_seconds for cost in measured], 1000, ".0f"))
        print(row(f"cold, ms{suffix}", cold, 1000, ".0f"))
        print(row(f"the pass, ms{suffix}", [cost.pass_seconds for cost in measured], 1000, ".1f"))
        passes = [cost.adaptation_seconds / cost.pass_seconds for cost in measured]
        print(row(f"warm, passes{suffix}", passes, 1, ".2f"))
    print("\n| time after a rehearsal with 8 + 8 images over that with 64 + 64 | median | 95 % |")
    print("|---|---|---|")
    for name, values in ratios.items():
        print(row(f"`{name}`", values, 1, ".3f"))
    print("\n| repeats | half of the median's 95 % interval, relative to the median |")
    print("|---|---|")
    warm = [cost.adaptation_seconds for cost in undisturbed]
    for count, width in interval_widths(warm).items():
        print(f"| {count} | {width:.1%} |")


def interval_widths(seconds: Sequence[float]) -> dict[int, float]:
    """Return half of the 95 % interval of the median, over the median, by the number of repeats.

    Args:
        seconds: measured times, which are resampled.
    """
    times, rng = np.array(seconds), np.random.default_rng(0)
    widths = {}
    for count in (1, 3, 5, 10, 15, 30):
        medians = np.median(rng.choice(times, (2000, count)), axis=1)
        low, high = np.quantile(medians, [0.025, 0.975])
        widths[count] = float((high - low) / 2 / statistics.median(seconds))
    return widths


if __name__ == "__main__":
    choices: dict[str, DeviceKind] = {kind: kind for kind in DEVICE_KINDS}
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    if device not in choices:
        sys.exit(f"unknown device {device!r}; choose cpu or cuda")
    main(choices[device])
