"""(c) How long methods take on large networks, in passes, beside a plain loop.

The networks have their weights as initialised, which changes no time. The plain loop trains the gains
of `attention` with the whole network in each step.
"""

from __future__ import annotations

import functools
import time

import torch

from attnbench.adaptation import batches, frozen_features
from attnbench.errors import NotApplicable
from benchmarks.contenders import plain_attention, shipped
from benchmarks.gpu.methods import FIRST, method_names
from benchmarks.gpu.part import Measured, Part, Sizes
from benchmarks.gpu.rates import matrix_rate, operations_per_image, repeated
from benchmarks.measured import Figure
from benchmarks.race import Contender, Course, Times, measure, run_best_pass, run_pass

PASS, LOOP = "a pass", "plain loop"
_ROUNDS = 3
# The part of a device's rate that a pass in bfloat16 should reach.
AIMED_SHARE = 0.5


def _items(sizes: Sizes) -> list[str]:
    names = method_names(sizes.methods)
    first = [PASS, LOOP, *(name for name in FIRST if name in names)]
    rest = [name for name in names if name not in FIRST]
    return [
        f"{network}: {name}"
        for group in (first, rest)
        for network in sizes.networks
        for name in group
    ]


def _measure(item: str, sizes: Sizes, seconds: float) -> Measured:
    network, _, name = item.partition(": ")
    course = course_on(network, sizes, sizes.per_class)
    if name == PASS:
        return _passes(item, course, sizes)
    adapt = plain_attention if name == LOOP else shipped(name)
    return _times(item, Contender(name, adapt), course, seconds)


@functools.lru_cache(maxsize=1)
def course_on(network: str, sizes: Sizes, per_class: int) -> Course:
    """Return the course on a network. The last one is kept."""
    return Course.on(network, {}, device=sizes.device, per_class=per_class)


def _passes(item: str, course: Course, sizes: Sizes) -> Measured:
    """Time passes, and compare their rate with that of products of large matrices."""
    device = course.pos.device
    images = torch.cat([course.pos, course.neg])
    batch = images[next(batches(images))]
    operations = operations_per_image(course.backbone, batch[:1]) * len(images)
    figures = []
    functions = {
        "float32": functools.partial(run_pass, course),
        "float32, channels last": functools.partial(run_best_pass, course),
        "bfloat16": functools.partial(
            frozen_features, course.backbone, images, precision="bfloat16"
        ),
    }
    for precision, function in functions.items():
        seconds = repeated(function, device, rounds=5)
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        rate = matrix_rate(device, dtype, sizes.matrix)
        row = f"{item}, {precision}"
        figures += [
            Figure(row=row, column="time", unit="s", values=seconds),
            Figure(row=row, column="TFLOP/s of matrices", values=[rate / 1e12]),
            Figure(
                row=row,
                column="share of that rate",
                unit="%",
                values=[operations / each / rate for each in seconds],
                aim=AIMED_SHARE if precision == "bfloat16" else None,
                more_is_better=True,
            ),
        ]
    return Measured(tuple(figures))


def _times(item: str, contender: Contender, course: Course, seconds: float) -> Measured:
    """Time a contender after a rehearsal, each time beside a pass."""
    started = time.perf_counter()
    times, passes = Times(), []
    run_pass(course)
    try:
        measure(times, contender, course)
    except NotApplicable as refusal:
        return Measured(remarks=(f"{item}: does not apply: {refusal}",))
    rehearsal = times.seconds.pop()
    for _ in range(_ROUNDS):
        passes.append(course.seconds_of(lambda: run_pass(course)))
        measure(times, contender, course)
        if time.perf_counter() - started + rehearsal > seconds:
            break
    ratios = [each / unit for each, unit in zip(times.seconds, passes, strict=True)]
    return Measured(
        (
            Figure(row=item, column="passes", values=ratios),
            Figure(row=item, column="time", unit="s", values=times.seconds),
            Figure(row=item, column="loss", unit="nats", values=[times.loss]),
        )
    )


NETWORKS = Part("networks", "(c) Adaptation of large networks, in passes", 0.25, _items, _measure)
