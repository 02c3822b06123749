"""Read-outs by arg-max: what they count, and where they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from attnbench.backbones import load
from attnbench.commands.check import made_up_episode
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.argmax_readouts import argmax_readouts
from attnbench.judge.template import Template
from attnbench.submission import load_submission


def test_the_largest_of_all_and_the_largest_of_the_targets() -> None:
    # labels 0..3; the task's targets are 0 and 1; the target is 0; two positives, two negatives
    logits = np.array(
        [
            [3.0, 1.0, 2.0, 0.0],  # 0 wins both
            [2.0, 1.0, 3.0, 0.0],  # 2 wins all, 0 among the targets: a hit by that rule only
            [1.0, 2.0, 0.0, 0.0],  # 1 wins both
            [2.0, 1.0, 0.0, 5.0],  # 3 wins all, 0 among the targets: a false alarm by that rule
        ]
    )
    found = argmax_readouts(logits, 0, (0, 1), np.array([True, True, False, False]))
    counts = {name: (each.hits, each.false_alarms) for name, each in found.items()}
    assert counts == {"argmax-all": (1, 0), "argmax-targets": (2, 1)}
    # log-linear: H = 1.5 / 3, F = 0.5 / 3
    assert found["argmax-all"].hit_rate == pytest.approx(0.5)
    assert found["argmax-all"].false_alarm_rate == pytest.approx(1 / 6)


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    backbone = load("shipped/digits-cnn")
    with Template() as template:
        yield Evaluator(backbone, template, device="cpu", untrained=False)


@pytest.mark.parametrize("name", ["none", "bias_only", "attention", "last_layer"])
def test_detectors_that_keep_the_heads_outputs_have_them_read(
    evaluator: Evaluator, name: str
) -> None:
    episode = made_up_episode(load("shipped/digits-cnn"))
    asked = replace(episode, rivals=(0, 1, 2))
    result, _ = evaluator.judge(load_submission(name), asked, 60.0, cold=False)
    assert result.status == "ok", result.reason
    assert set(result.readouts) == {"argmax-all", "argmax-targets"}
    unasked, _ = evaluator.judge(load_submission(name), episode, 60.0, cold=False)
    assert unasked.readouts == {}
    assert unasked.measures == result.measures
