"""Rounds of a benchmark."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import ParamSpec, TypeVar

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

Given = ParamSpec("Given")
Found = TypeVar("Found")


def in_rounds(
    benchmark: BenchmarkFixture, one: Callable[[], Found], rounds: int, *, warm_up: bool = True
) -> list[Found]:
    """What `one` gives in each round, behind one that does not count unless it is not to warm up.

    Where pytest-benchmark is disabled it is called once, to see that it runs.
    """
    found: list[Found] = []
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        lambda: found.append(one()), rounds=rounds, warmup_rounds=int(warm_up)
    )
    return found[-rounds:]


def seconds_of(function: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def in_a_process(
    malloc: str, function: Callable[Given, Found], *args: Given.args, **kwargs: Given.kwargs
) -> Found:
    """What a function of a module gives in a new process with these tunables of the C library."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLIBC_TUNABLES", malloc)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(function, *args, **kwargs).result()
