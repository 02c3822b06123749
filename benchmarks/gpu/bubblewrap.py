"""(e) Does `--isolation bwrap` work with the device passed through, and what does it cost?"""

from __future__ import annotations

import dataclasses
import statistics

from attnbench.submission import SOURCE, load_submission
from attnbench.vocabulary import ISOLATION_LEVELS
from benchmarks.gpu import judging
from benchmarks.gpu.part import Measured, Part, Sizes
from benchmarks.gpu.rates import until
from benchmarks.measured import Figure

METHOD, PER_CLASS = "attention", 24

# Appended to a submission, this prints what it sees of the machine.
LOOK_AROUND = """

_without_looking = adapt


def adapt(*images, **settings):
    import os

    import torch

    devices = ("nvidia0", "nvidiactl", "nvidia-uvm")
    seen = [name for name in devices if os.path.exists(f"/dev/{name}")]
    print("sees", torch.cuda.device_count(), "GPUs, and in /dev:", ", ".join(seen) or "none")
    return _without_looking(*images, **settings)
"""


def _items(sizes: Sizes) -> list[str]:
    return ["bwrap", "process"]


def _measure(item: str, sizes: Sizes, seconds: float) -> Measured:
    (isolation,) = (level for level in ISOLATION_LEVELS if level == item)
    plain = load_submission(METHOD)
    files = {**plain.files, SOURCE: plain.files[SOURCE] + LOOK_AROUND.encode()}
    submission = dataclasses.replace(plain, files=files)
    evaluator = judging.evaluator_on(sizes.device, sizes.backbone, submission, isolation)
    episode = judging.noise_on(sizes.backbone, per_class=PER_CLASS)
    results = []
    until(
        seconds,
        max(1, sizes.repeats // 10),
        lambda: results.append(judging.judged(evaluator, submission, episode)),
    )
    costs = [judging.cost_of(result) for result in results]
    figures = {
        "adaptation": [cost.adaptation_seconds for cost in costs],
        "pass": [cost.pass_seconds for cost in costs],
        "prediction": [cost.prediction_seconds for cost in costs],
    }
    printed = results[0].printed.strip().splitlines()[:1]
    return Measured(
        tuple(
            Figure(row=item, column=column, unit="s", values=[statistics.median(values)])
            for column, values in figures.items()
        ),
        (
            *(f"{item}: a worker {line}." for line in printed),
            f"{item}: confined by {', '.join(evaluator.confinement)}.",
        ),
    )


BUBBLEWRAP = Part("bubblewrap", "(e) bubblewrap with the device", 0.07, _items, _measure)
