"""Options of the benchmarks, and the fixture that keeps what they measure."""

from __future__ import annotations

from typing import Protocol

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.measured import Figure, cell


class Keep(Protocol):
    """Says what was measured, and keeps it for the report."""

    def __call__(self, table: str, *figures: Figure) -> None: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("attnbench")
    group.addoption("--backbone", default="shipped/figures-vgg", help="adapted in test_adaptation")
    group.addoption("--rounds", type=int, default=3, help="of each comparison in test_adaptation")


@pytest.fixture
def keep(benchmark: BenchmarkFixture) -> Keep:
    """See `Keep`."""

    def keep(table: str, *figures: Figure) -> None:
        benchmark.extra_info["table"] = table
        kept = benchmark.extra_info.setdefault("figures", [])
        for figure in figures:
            kept.append(figure.model_dump())
            print(f"{table}: {figure.row}, {figure.column}: {cell(figure)}", flush=True)

    return keep
