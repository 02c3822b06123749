"""Times and rates of a device: events, a forward pass, products of matrices."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from attnbench.sandbox.warm_state import synchronise
from benchmarks.rounds import seconds_of

_WARM_UPS, _ROUNDS, _PRODUCTS = 3, 5, 4


def synchronised_seconds(function: Callable[[], object], device: torch.device) -> float:
    """Return how long a call takes until the device has finished all of its work, in seconds."""

    def finish() -> None:
        function()
        synchronise(device)

    synchronise(device)
    return seconds_of(finish)


def event_seconds(function: Callable[[], object], device: torch.device) -> float:
    """Return how long a call takes by CUDA events on the current stream, in seconds.

    Work on other streams counts only where the current one waits for it. A CPU has no streams, and the
    host's clock takes the place of events.
    """
    if device.type != "cuda":
        return seconds_of(function)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    synchronise(device)
    begin.record()
    function()
    end.record()
    synchronise(device)  # events can only be compared once both have occurred
    return begin.elapsed_time(end) / 1000


def matrix_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """Return the rate of a device at products of square matrices, in operations a second.

    The numbers are random, because products of zeros take less power and can be faster.

    Args:
        device: where to multiply.
        dtype: of the matrices.
        size: their rows and columns. A product takes 2 size³ operations.
    """
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator, device=device).to(dtype) for _ in range(2))

    def multiply() -> None:
        for _ in range(_PRODUCTS):
            a @ b

    seconds = repeated(multiply, device, rounds=_ROUNDS, warm_ups=_WARM_UPS)
    return 2 * size**3 * _PRODUCTS / statistics.median(seconds)


def repeated(
    function: Callable[[], object], device: torch.device, *, rounds: int, warm_ups: int = 1
) -> list[float]:
    """Return the seconds of each of some calls, after others that are not timed."""
    for _ in range(warm_ups):
        function()
    return [synchronised_seconds(function, device) for _ in range(rounds)]


def operations_per_image(network: nn.Module, images: Tensor) -> float:
    """Return the floating-point operations of a forward pass per image, as PyTorch counts them.

    A multiplication and an addition count as two.

    Args:
        network: in eval mode.
        images: `[n, 3, h, w]`, a batch.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(images)
    return counter.get_total_flops() / len(images)


def until(seconds: float, most: int, measure: Callable[[], object]) -> int:
    """Repeat a measurement at least once, and for as long as another one is likely to fit.

    Args:
        seconds: the time for all of them.
        most: the most repetitions.
        measure: one of them.

    Returns:
        How many there were.
    """
    started = time.perf_counter()
    for done in range(1, most + 1):
        measure()
        spent = time.perf_counter() - started
        if spent * (done + 1) / done > seconds:
            return done
    return most
