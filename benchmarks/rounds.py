"""Helpers to repeat a measurement and to time a call."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:  # `python -m benchmarks gpu` runs where there is no pytest
    from pytest_benchmark.fixture import BenchmarkFixture

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


def in_rounds(
    benchmark: BenchmarkFixture,
    measure: Callable[[], Value],
    rounds: int,
    *,
    warm_up: bool = True,
) -> list[Value]:
    """Call `measure` once per round and return its values.

    If pytest-benchmark is disabled, there is a single call, which only checks that it runs.

    Args:
        benchmark: the fixture of pytest-benchmark.
        measure: one measurement.
        rounds: how many to return.
        warm_up: whether to call `measure` once more in front of them, without keeping its value.
    """
    values: list[Value] = []
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        lambda: values.append(measure()), rounds=rounds, warmup_rounds=int(warm_up)
    )
    return values[-rounds:]


def seconds_of(function: Callable[[], object]) -> float:
    """Return how long a call takes, in seconds."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def in_process(
    tunables: str,
    function: Callable[Arguments, Value],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Value:
    """Call a function in a new process and return its value.

    Args:
        tunables: `GLIBC_TUNABLES` of that process, which are read only when a process starts.
        function: of a module, so that it can be pickled.
        args, kwargs: its arguments.
    """
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLIBC_TUNABLES", tunables)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(function, *args, **kwargs).result()
