"""(d) The most memory that methods take beyond the loaded backbone, by the number of images.

On a GPU, the allocator counts it. On a CPU, it is resident memory.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from attnbench.errors import NotApplicable
from attnbench.isolation.linux import return_freed_memory
from attnbench.judge.memory import PeakMemory
from attnbench.sandbox.warm_state import synchronise
from attnbench.submission import load_submission
from benchmarks.contenders import plain_attention, shipped
from benchmarks.gpu import judging
from benchmarks.gpu.methods import FIRST, JUDGED, method_names
from benchmarks.gpu.networks import LOOP, course_on
from benchmarks.gpu.part import Measured, Part, Sizes
from benchmarks.measured import Figure
from benchmarks.race import run_pass

_MEBIBYTE = 2**20


def _items(sizes: Sizes) -> list[str]:
    names = [name for name in FIRST if name in method_names(sizes.methods)]
    judged = f"{sizes.networks[0]}: {names[0]}{JUDGED}"
    return [
        judged,
        *(f"{network}: {name}" for network in sizes.networks for name in [LOOP, *names]),
    ]


def _measure(item: str, sizes: Sizes, seconds: float) -> Measured:
    network, _, name = item.partition(": ")
    if name.endswith(JUDGED):
        return _judged(item, network, name.removesuffix(JUDGED), sizes)
    adapt = plain_attention if name == LOOP else shipped(name)
    figures = []
    for per_class in sizes.memory_per_class:
        course = course_on(network, sizes, per_class)
        run_pass(course)  # warms up
        backbone = copy.deepcopy(course.backbone)
        torch.manual_seed(0)
        try:
            taken = peak_bytes(partial(adapt, backbone, course.pos, course.neg), course.pos.device)
        except NotApplicable as refusal:
            return Measured(remarks=(f"{item}: does not apply: {refusal}",))
        for column, value in taken.items():
            figures.append(_figure(item, f"{column}, {per_class} + {per_class} images", value))
    return Measured(tuple(figures))


def peak_bytes(function: Callable[[], object], device: torch.device) -> dict[str, int]:
    """Return the bytes that a call takes at most, beyond those in use before.

    Returns:
        On a GPU, what was allocated, and what the allocator had reserved, which includes memory that
        it keeps. On a CPU, resident memory.
    """
    if device.type == "cuda":
        torch.cuda.empty_cache()
        synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        allocated, reserved = (
            torch.cuda.memory_allocated(device),
            torch.cuda.memory_reserved(device),
        )
        function()
        synchronise(device)
        return {
            "allocated": torch.cuda.max_memory_allocated(device) - allocated,
            "reserved": torch.cuda.max_memory_reserved(device) - reserved,
        }
    return_freed_memory()  # it would be used again, and not be counted
    # Writing 5 resets the peak of resident memory, VmHWM (see proc_pid_clear_refs(5)).
    Path("/proc/self/clear_refs").write_text("5")
    process = os.pidfd_open(os.getpid())
    try:
        memory = PeakMemory(process)
        function()
        return {"resident": memory.growth() or 0}
    finally:
        os.close(process)


def _judged(item: str, network: str, name: str, sizes: Sizes) -> Measured:
    """Have the judge measure the same, in a worker that has rehearsed."""
    submission = load_submission(name)
    evaluator = judging.evaluator_on(sizes.device, network, submission)
    figures = []
    for per_class in sizes.memory_per_class:
        episode = judging.noise_on(network, per_class=per_class, tested=16)
        cost = judging.cost_of(judging.judged(evaluator, submission, episode))
        if cost.peak_memory_bytes is not None:
            kind = "allocated" if sizes.device == "cuda" else "resident"
            column = f"{kind}, {per_class} + {per_class} images"
            figures.append(_figure(item, column, cost.peak_memory_bytes))
    return Measured(tuple(figures))


def _figure(row: str, column: str, value: int) -> Figure:
    return Figure(row=row, column=column, unit="MiB", values=[value / _MEBIBYTE])


MEMORY = Part("memory", "(d) Peak memory", 0.08, _items, _measure)
