"""Which backbone the benchmarks of adaptation run on."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("attnbench")
    group.addoption("--backbone", default="shipped/figures-vgg", help="adapted in test_adaptation")
    group.addoption("--rounds", type=int, default=3, help="of each comparison in test_adaptation")
