"""What each choice of the timing protocol is worth on this machine: the tables of docs/timing.md.

python -m benchmarks.studies.timing_protocol [cpu|cuda]
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import subprocess
import sys
from collections.abc import Iterator

import numpy as np

from attnbench.backbones import load
from attnbench.commands.check import DEFAULT_BACKBONE, made_up_episode
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.template import Template
from attnbench.records.record import Cost
from attnbench.statistics.intervals import median_interval
from attnbench.submission import SOURCE, load_submission

REPEATS = 30
REHEARSED = ("attention", "last_layer", "linear_probe", "adapter", "full_finetune")

WANTS_ALL = """

_with_any = adapt


def adapt(backbone, pos, neg, **settings):
    assert len(pos) > 8, "no rehearsal with a few images"
    return _with_any(backbone, pos, neg, **settings)
"""

BUSY = """
import sys, torch
a = torch.randn(2000, 2000, device=sys.argv[1])
print("busy", flush=True)
while True:
    a = a @ a.T
    a /= a.norm()
"""


@contextlib.contextmanager
def a_second_job(device: str) -> Iterator[None]:
    """Another process that multiplies matrices as fast as it can."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY, device], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


def costs(evaluator: Evaluator, repeats: int) -> list[Cost]:
    """What `attention` costs, time and again on the same images."""
    submission = load_submission("attention")
    episode = made_up_episode(load(DEFAULT_BACKBONE), per_side=24)
    found = []
    for _ in range(repeats + 1):
        result, _ = evaluator.judge(submission, episode, 300.0, cold=True)
        assert result.cost is not None, result.reason
        found.append(result.cost)
    return found[1:]


def few_against_all(evaluator: Evaluator, name: str, repeats: int) -> list[float]:
    """Ratios of adaptation times behind a rehearsal with eight images a side and with all, in turn."""
    few = load_submission(name)
    source = few.files[SOURCE] + WANTS_ALL.encode()
    every = dataclasses.replace(few, files={**few.files, SOURCE: source})
    episode = made_up_episode(load(DEFAULT_BACKBONE), per_side=64)
    ratios = []
    for _ in range(repeats):
        seconds = []
        for submission in (few, every):
            result, _ = evaluator.judge(submission, episode, 300.0, cold=False)
            assert result.cost is not None, result.reason
            seconds.append(result.cost.adaptation_seconds)
        ratios.append(seconds[0] / seconds[1])
    return ratios


def row(what: str, values: list[float], unit: float, form: str) -> str:
    median, low, high = (f"{each * unit:{form}}" for each in median_interval(values))
    return f"| {what} | {median} | {low} to {high} |"


def main(device: str) -> None:
    with Template() as template:
        evaluator = Evaluator(load(DEFAULT_BACKBONE), template, device=device, untrained=False)
        alone = costs(evaluator, REPEATS)
        with a_second_job(device):
            beside = costs(evaluator, REPEATS // 2)
        ratios = {name: few_against_all(evaluator, name, REPEATS // 2) for name in REHEARSED}
    print("| `attention`, 24 + 24 made-up images | median | 95 % interval |")
    print("|---|---|---|")
    for where, found in (("", alone), (", beside a second job", beside)):
        cold = [each.adaptation_seconds_cold or 0.0 for each in found]
        print(row(f"warm, ms{where}", [each.adaptation_seconds for each in found], 1000, ".0f"))
        print(row(f"cold, ms{where}", cold, 1000, ".0f"))
        print(row(f"the pass, ms{where}", [each.pass_seconds for each in found], 1000, ".1f"))
        passes = [each.adaptation_seconds / each.pass_seconds for each in found]
        print(row(f"warm, passes{where}", passes, 1, ".2f"))
    print(
        "\n| a rehearsal with 8 + 8 images for 64 + 64: time over that with all | median | 95 % |"
    )
    print("|---|---|---|")
    for name, found in ratios.items():
        print(row(f"`{name}`", found, 1, ".3f"))
    print("\n| repeats | half of the 95 % interval of the median, as a share of it |")
    print("|---|---|")
    seconds = np.array([each.adaptation_seconds for each in alone])
    rng = np.random.default_rng(0)
    for count in (1, 3, 5, 10, 15, 30):
        medians = np.median(rng.choice(seconds, (2000, count)), axis=1)
        low, high = np.quantile(medians, [0.025, 0.975])
        print(f"| {count} | {(high - low) / 2 / statistics.median(seconds):.1%} |")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "cpu")
