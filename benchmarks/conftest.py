"""Options of the benchmarks, and the fixture that stores their figures."""

from __future__ import annotations

from typing import Protocol

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measured import Figure, cell


class Keep(Protocol):
    """Prints figures and stores them for the report."""

    def __call__(self, table: str, *figures: Figure) -> None: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("attnbench")
    group.addoption(
        "--backbone",
        default="shipped/figures-vgg",
        help="backbone for test_adaptation and test_profiles",
    )
    group.addoption(
        "--rounds", type=int, default=3, help="rounds of each comparison in test_adaptation"
    )


@pytest.fixture
def keep(benchmark: BenchmarkFixture) -> Keep:
    """See `Keep`."""

    def keep(table: str, *figures: Figure) -> None:
        benchmark.extra_info["table"] = table
        stored = benchmark.extra_info.setdefault("figures", [])
        for figure in figures:
            stored.append(figure.model_dump())
            print(f"{table}: {figure.row}, {figure.column}: {cell(figure)}", flush=True)

    return keep
