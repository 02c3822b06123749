"""Questions of the timing protocol that need no judge: warm-up, clocks, events."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.contenders import shipped
from benchmarks.gpu.part import Measured, Sizes
from benchmarks.gpu.rates import event_seconds, repeated, synchronised_seconds, until
from benchmarks.gpu.results import nvidia_smi
from benchmarks.gpu.side_work import amount_of_work, multiply
from benchmarks.measured import Figure
from benchmarks.race import Contender, Course, Times, measure, run_pass

METHOD, SLOW_METHOD = "attention", "full_finetune"
# Adaptations of a process that the first table of times shows one by one.
_SHOWN = 3
_STATE = "clocks.sm,clocks.max.sm,temperature.gpu,power.draw"


def warm_up(sizes: Sizes, seconds: float) -> Measured:
    """Time one adaptation after the other in a process in which nothing has run before."""
    figures = []
    course = Course.on(sizes.backbone, {}, device=sizes.device, per_class=sizes.timed_per_class)
    for name in (METHOD, SLOW_METHOD):
        times = Times()
        contender = Contender(name, shipped(name))
        until(seconds / 2, _SHOWN + sizes.repeats, partial(measure, times, contender, course))
        for number, each in enumerate(times.seconds[:_SHOWN], start=1):
            row = f"`{name}`, adaptation {number} of a process"
            figures.append(Figure(row=row, unit="s", values=[each]))
        if later := times.seconds[_SHOWN:]:
            figures.append(Figure(row=f"`{name}`, later ones", unit="s", values=later))
    return Measured(tuple(figures))


def clocks(sizes: Sizes, seconds: float) -> Measured:
    """Time a pass in a row of passes, and after the device has idled, when its clock may be low."""
    course = Course.on(sizes.backbone, {}, device=sizes.device, per_class=sizes.timed_per_class)
    one_pass = partial(run_pass, course)
    idle = nvidia_smi(_STATE)
    in_a_row = repeated(one_pass, course.pos.device, rounds=sizes.repeats)
    busy = nvidia_smi(_STATE)
    after_idling: list[float] = []

    def idle_and_pass() -> None:
        time.sleep(sizes.idle_seconds)
        after_idling.append(synchronised_seconds(one_pass, course.pos.device))

    until(seconds / 2, sizes.repeats, idle_and_pass)
    row = f"a pass after {sizes.idle_seconds:g} s of idling"
    states = [f"{_STATE}: {idle} at first, {busy} after passes in a row."] if idle else []
    return Measured(
        (
            Figure(row="a pass, one after the other", unit="s", values=in_a_row),
            Figure(row=row, unit="s", values=after_idling),
        ),
        tuple(states),
    )


def events(sizes: Sizes, seconds: float) -> Measured:
    """Compare CUDA events with the host's clock, with work on the current stream and on another."""
    course = Course.on(sizes.backbone, {}, device=sizes.device, per_class=sizes.timed_per_class)
    device, adapt = course.pos.device, shipped(METHOD)

    def adaptation() -> None:
        adapt(copy.deepcopy(course.backbone), course.pos, course.neg)

    size, count = amount_of_work(sizes)
    functions = {
        "an adaptation": adaptation,
        "work on another stream": partial(multiply, device, size, count, aside=True),
    }
    figures = []
    for row, function in functions.items():
        by_host, by_events = _by_both_clocks(function, device, sizes.repeats, seconds / 2)
        figures += [
            Figure(row=f"{row}, by the host's clock", unit="s", values=by_host),
            Figure(row=f"{row}, by events", unit="s", values=by_events),
        ]
    return Measured(tuple(figures))


def _by_both_clocks(
    function: Callable[[], object], device: torch.device, most: int, seconds: float
) -> tuple[list[float], list[float]]:
    """Return the seconds of calls by the host's clock, and those of others in turn by events."""
    by_host: list[float] = []
    by_events: list[float] = []

    def both() -> None:
        by_host.append(synchronised_seconds(function, device))
        by_events.append(event_seconds(function, device))

    function()  # warms up
    until(seconds, most, both)
    return by_host, by_events
