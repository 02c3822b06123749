"""What a record says of its machine: beside an independent library."""

from __future__ import annotations

import cpuinfo
import pytest

from attnbench.judge.environment import processor_name


def test_a_processor_is_told_from_others_of_the_same_name() -> None:
    known = cpuinfo.get_cpu_info()
    if "family" not in known:
        pytest.skip("this processor has no family")
    kind = f"(family {known['family']}, model {known['model']})"
    assert processor_name() == f"{known['brand_raw']} {kind}"
