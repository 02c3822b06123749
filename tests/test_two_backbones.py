"""What two backbones know of a target that the other does not, against closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attnbench.errors import AttnbenchError
from attnbench.records.integrity import Responses
from benchmarks.studies.two_backbones import compare, table_of

PRESENT = np.arange(2000) < 800


def observers(d_primes: tuple[float, float], shared: float, seed: int) -> tuple[Responses, ...]:
    """Gaussian observers with a common share of noise variance."""
    rng = np.random.default_rng(seed)
    common, own = rng.standard_normal(len(PRESENT)), rng.standard_normal((2, len(PRESENT)))
    noise = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
    return tuple(
        Responses((d_prime * PRESENT + row).astype(np.float32) - d_prime / 2, PRESENT)
        for d_prime, row in zip(d_primes, noise, strict=True)
    )


def test_independent_observers_add_up() -> None:
    """The optimal combination of independent Gaussian channels has d' = sqrt(d1^2 + d2^2)."""
    by_target = [observers((1.5, 1.0), 0.0, seed) for seed in range(12)]
    first = {f"{number}": one for number, (one, _) in enumerate(by_target)}
    second = {f"{number}": other for number, (_, other) in enumerate(by_target)}
    found = compare(first, second)
    assert found.first.value == pytest.approx(1.5, abs=0.05)
    assert found.second.value == pytest.approx(1.0, abs=0.05)
    both = np.hypot(1.5, 1.0)
    assert found.added_by_second.value == pytest.approx(both - 1.5, abs=0.05)
    assert found.added_by_first.value == pytest.approx(both - 1.0, abs=0.05)
    assert found.difference.value == pytest.approx(-0.5, abs=0.06)
    assert found.kappa is not None and abs(found.kappa.value) < 0.05


def test_an_observer_adds_nothing_to_itself() -> None:
    responses = {f"{seed}": observers((1.5, 1.5), 1.0, seed)[0] for seed in range(6)}
    found = compare(responses, responses)
    assert found.difference.value == 0 and found.kappa is not None and found.kappa.value == 1
    assert found.added_by_second.value == pytest.approx(0, abs=0.02)
    # A detector that knows nothing adds nothing either.
    blind = {f"{seed}": observers((1.5, 0.0), 0.0, seed)[1] for seed in range(6)}
    assert compare(responses, blind).added_by_second.value == pytest.approx(0, abs=0.02)


def test_records_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    one, other = observers((1.0, 1.0), 0.0, 0)
    with pytest.raises(AttnbenchError, match="different targets"):
        compare({"a": one}, {"b": other})
    with pytest.raises(AttnbenchError, match="test images of a differ"):
        compare({"a": one}, {"a": Responses(other.scores, ~PRESENT)})
    with pytest.raises(AttnbenchError, match="no method with records on x and y"):
        table_of(tmp_path, ["x", "y"])
