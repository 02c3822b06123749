"""The name of the processor in records, compared with an independent library."""

from __future__ import annotations

import cpuinfo
import pytest

from attnbench.judge.environment import processor_name


def test_processor_name_includes_family_and_model() -> None:
    info = cpuinfo.get_cpu_info()
    if "family" not in info:
        pytest.skip("this processor has no family")
    kind = f"(family {info['family']}, model {info['model']})"
    assert processor_name() == f"{info['brand_raw']} {kind}"
