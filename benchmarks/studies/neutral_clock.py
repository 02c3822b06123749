"""Is a method charged alike, whether it uses the toolkit or not? The tables in docs/timing.md.

    python -m benchmarks.studies.neutral_clock

Two questions, on the backbone of `mini` and on SqueezeNet 1.1 without trained weights:

- How long does `attention` take beside a twin that brings the toolkit along under another name? The
  two are timed in turn.
- How much longer does an adaptation take than the same one repeated in its process, which is then warm?
  This is measured for a method with the toolkit. It is also measured for plain PyTorch with batches
  of 12, channels-last images, and half precision.
"""

from __future__ import annotations

import dataclasses
import re
from statistics import fmean

from attnbench.backbones import load
from attnbench.commands.check import noise_episode
from attnbench.isolation.confinement import limits_for
from attnbench.judge.template import Template
from attnbench.judge.worker_session import Adaptation, WorkerSession
from attnbench.statistics.intervals import median_interval
from attnbench.stimuli.episode import Episode
from attnbench.submission import Submission, load_submission
from tests.twin_submissions import VARIANTS, without_the_toolkit

BACKBONES = ("shipped/figures-vgg", "torchvision/squeezenet1_1")
PER_CLASS, REPEATS = 24, 11

# In place of `counting.py`: adapts three times in one process, and prints the seconds of each time.
REPEATING = """
import copy, functools, time


def count_created_kernels(adapt):
    @functools.wraps(adapt)
    def repeated(backbone, pos, neg):
        copies = [copy.deepcopy(backbone) for _ in range(2)]
        seconds = []
        for each in (backbone, *copies):
            started = time.perf_counter()
            detector = adapt(each, pos, neg)
            seconds.append(time.perf_counter() - started)
            kept = detector if each is backbone else kept
        print("seconds", *seconds)
        return kept

    return repeated
"""


def adapted(workers: WorkerSession, submission: Submission, episode: Episode) -> Adaptation:
    """Time an adaptation on an idle machine."""
    adaptation = workers.adapt(submission, episode, 600.0, rehearse=True)
    if adaptation.contended:
        raise SystemExit("other work uses the CPU: run this on an idle machine")
    return adaptation


def passes(workers: WorkerSession, submission: Submission, episode: Episode) -> float:
    """Return the passes that an adaptation takes."""
    adaptation = adapted(workers, submission, episode)
    assert adaptation.pass_seconds is not None
    return adaptation.seconds / adaptation.pass_seconds


def over_warm(workers: WorkerSession, submission: Submission, episode: Episode) -> float:
    """Return the time of a first adaptation over the mean of two more in the same process."""
    (line,) = re.findall(r"seconds (.*)", adapted(workers, submission, episode).printed)
    first, *others = map(float, line.split())
    return first / fmean(others)


def row(label: str, values: list[float]) -> str:
    """Return a table row with the median and its 95 % interval."""
    median, low, high = median_interval(values)
    return f"| {label} | {median:.3f} | {low:.3f} to {high:.3f} |"


def repeated(variant: str) -> Submission:
    """Return a submission that repeats the adaptation of a variant."""
    files = {"submission.py": VARIANTS[variant].encode(), "counting.py": REPEATING.encode()}
    return dataclasses.replace(load_submission("none"), files=files, sha256="0" * 64)


def main(name: str) -> None:
    """Print the table for one backbone."""
    backbone = load(name, untrained=True)
    episode = noise_episode(backbone, per_class=PER_CLASS)
    attention = load_submission("attention")
    twin = without_the_toolkit(attention)
    print(
        f"\n| `{name}`, {PER_CLASS} + {PER_CLASS} images | median | 95 % interval |\n|---|---|---|"
    )
    for variant in (None, *VARIANTS):
        # A new template each time, so that each variant has a first episode.
        with Template("process", limits=limits_for(3600.0), modules=attention.modules) as template:
            template.load(name, untrained=True)
            labels = len(backbone.labels or ())
            workers = WorkerSession(template, backbone=name, labels=labels, size=0, device="cpu")
            if variant is None:
                pairs = [
                    [passes(workers, submission, episode) for submission in (attention, twin)]
                    for _ in range(REPEATS)
                ]
                print(row("`attention`, passes", [one for one, _ in pairs]))
                print(row("its twin, passes", [other for _, other in pairs]))
                print(row("`attention` over its twin", [one / other for one, other in pairs]))
                continue
            submission = repeated(variant)
            ratios = [over_warm(workers, submission, episode) for _ in range(REPEATS)]
            print(f"| {variant}, first episode over warm | {ratios[0]:.3f} | |")
            print(row(f"{variant}, later episodes over warm", ratios[1:]))


if __name__ == "__main__":
    for each in BACKBONES:
        main(each)
