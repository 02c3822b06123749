"""Work that a submission may put off on another stream: products of matrices."""

from __future__ import annotations

import dataclasses
import statistics
from functools import partial

import torch

from attnbench.submission import SOURCE, Submission
from benchmarks.gpu.part import Sizes
from benchmarks.gpu.rates import repeated

# Appended to a submission, this multiplies matrices before `adapt` returns. On a GPU it only puts the
# products on another stream, if that is wanted, and does not wait for them.
WORK = """

_without_work = adapt


def adapt(*images, **settings):
    import contextlib

    import torch

    detector = _without_work(*images, **settings)
    device = images[1].device
    stream = contextlib.nullcontext()
    if {aside} and device.type == "cuda":
        stream = torch.cuda.stream(torch.cuda.Stream(device))
    with stream:
        product = torch.eye({size}, device=device)
        for _ in range({count}):
            product = product @ product
    return detector
"""


def amount_of_work(sizes: Sizes) -> tuple[int, int]:
    """Return the size of matrices, and how many products take about `work_seconds`."""
    device = torch.device(sizes.device)
    size = sizes.matrix // 2
    few = 10
    one = statistics.median(
        repeated(partial(multiply, device, size, few, aside=False), device, rounds=3)
    )
    return size, max(1, round(few * sizes.work_seconds / one))


def multiply(device: torch.device, size: int, count: int, *, aside: bool) -> None:
    """Multiply matrices as `WORK` does."""
    on_gpu = device.type == "cuda"
    if on_gpu and aside:
        with torch.cuda.stream(torch.cuda.Stream(device)):
            multiply(device, size, count, aside=False)
        return
    product = torch.eye(size, device=device)
    for _ in range(count):
        product = product @ product


def with_work(submission: Submission, size: int, count: int, *, aside: bool) -> Submission:
    """Return a submission that multiplies matrices, too.

    Args:
        submission: does everything else.
        size, count: see `amount_of_work`.
        aside: whether to put the work on another stream of the GPU.
    """
    source = submission.files[SOURCE] + WORK.format(size=size, count=count, aside=aside).encode()
    return dataclasses.replace(submission, files={**submission.files, SOURCE: source})
