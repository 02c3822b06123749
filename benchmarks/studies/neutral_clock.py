"""Is a method charged alike, whether it uses the toolkit or not? The tables in docs/timing.md.

    python -m benchmarks.studies.neutral_clock [DATA]

Two questions, on `mini`, and with DATA on SqueezeNet 1.1 (`small`):

- How long does `attention` take beside a twin that brings the toolkit along under another name? The
  two are judged in turn.
- How much longer does an adaptation take than the same one once more in the same process, where
  everything is warm? This is measured for a method with the toolkit, and for plain PyTorch with
  batches of 12, channels-last images, and half precision.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

from attnbench.judge.conditions import Conditions
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.judge import open_judge
from attnbench.statistics.intervals import median_interval
from attnbench.stimuli.episodes import Episode, TrackStimuli
from attnbench.submission import Submission, load_submission
from attnbench.tasks import load_task
from tests.twin_submissions import VARIANTS, without_the_toolkit

TASK = "imagenet-standard"
REPEATS = 11

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


def passes(evaluator: Evaluator, submission: Submission, episode: Episode) -> float:
    """Return the passes that an adaptation is charged."""
    cost = evaluator.judge(submission, episode, 600.0, cold=False).result.cost
    assert cost is not None and not cost.contended, "the machine is not idle"
    return cost.adaptation_seconds / cost.pass_seconds


def over_steady(evaluator: Evaluator, submission: Submission, episode: Episode) -> float:
    """Return the time of a first adaptation over the mean of two more in the same process."""
    result = evaluator.judge(submission, episode, 600.0, cold=False).result
    (line,) = re.findall(r"seconds (.*)", result.printed)
    first, *others = map(float, line.split())
    return first / (sum(others) / len(others))


def row(label: str, values: list[float]) -> str:
    """Return a table row with the median and its 95 % interval."""
    median, low, high = median_interval(values)
    return f"| {label} | {median:.3f} | {low:.3f} to {high:.3f} |"


def variant(name: str) -> Submission:
    """Return a submission that repeats the adaptation of a variant."""
    files = {"submission.py": VARIANTS[name].encode(), "counting.py": REPEATING.encode()}
    return dataclasses.replace(load_submission("none"), files=files, sha256="0" * 64)


def main(track_name: str, data: Path | None) -> None:
    """Print the tables for one track."""
    track = load_task(TASK).tracks[track_name]
    attention = load_submission("attention")
    conditions = Conditions(data=data, modules=attention.modules)
    with open_judge(conditions) as judge:
        name = track.backbones[0]
        backbone = judge.resources.backbone(name)
        stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, data)
        episode = stimuli.episode(stimuli.targets[0], 0)
        print(f"\n`{name}`, {len(episode.pos)} + {len(episode.neg)} images\n")
        print("| | median | 95 % interval |\n|---|---|---|")
        twin = without_the_toolkit(attention)
        evaluator = judge.evaluator(name)
        pairs = [
            [passes(evaluator, submission, episode) for submission in (attention, twin)]
            for _ in range(REPEATS)
        ]
        print(row("`attention`, passes", [mine for mine, _ in pairs]))
        print(row("its twin, passes", [other for _, other in pairs]))
        print(row("`attention` over its twin", [mine / other for mine, other in pairs]))
    for name in VARIANTS:
        with open_judge(conditions) as judge:
            evaluator = judge.evaluator(track.backbones[0])
            submission = variant(name)
            ratios = [over_steady(evaluator, submission, episode) for _ in range(REPEATS)]
        print(row(f"{name}, first episode over warm", ratios[:1]))
        print(row(f"{name}, later episodes over warm", ratios[1:]))


if __name__ == "__main__":
    main("mini", None)
    if len(sys.argv) > 1:
        main("small", Path(sys.argv[1]))
