"""Read-outs by arg-max: how they count, and which detectors have them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from attnbench.backbones import load
from attnbench.commands.check import noise_episode
from attnbench.judge.argmax_readouts import argmax_readouts
from attnbench.judge.conditions import Conditions
from attnbench.judge.evaluator import Evaluator
from attnbench.judge.judge import open_judge
from attnbench.submission import load_submission

pytestmark = pytest.mark.usefixtures("quick_fork_servers")


def test_rules_take_the_largest_of_all_labels_or_of_the_targets() -> None:
    # The labels are 0 to 3. The task's targets are 0 and 1, and the target is 0. The first two
    # images are positives.
    logits = np.array(
        [
            [3.0, 1.0, 2.0, 0.0],  # 0 is largest by both rules
            [2.0, 1.0, 3.0, 0.0],  # 2 is largest; 0 among the targets, a hit by that rule only
            [1.0, 2.0, 0.0, 0.0],  # 1 is largest by both rules
            [2.0, 1.0, 0.0, 5.0],  # 3 is largest; 0 among the targets, a false alarm by that rule
        ]
    )
    readouts = argmax_readouts(logits, 0, (0, 1), np.array([True, True, False, False]))
    counts = {rule: (readout.hits, readout.false_alarms) for rule, readout in readouts.items()}
    assert counts == {"argmax-all": (1, 0), "argmax-targets": (2, 1)}
    # With the log-linear correction, the hit rate is 1.5 / 3 and the false alarm rate 0.5 / 3.
    assert readouts["argmax-all"].hit_rate == pytest.approx(0.5)
    assert readouts["argmax-all"].false_alarm_rate == pytest.approx(1 / 6)


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    with open_judge(Conditions()) as judge:
        yield judge.evaluator("shipped/digits-cnn")


@pytest.mark.parametrize("name", ["none", "bias_only", "attention", "last_layer"])
def test_detectors_that_keep_the_logits_are_read_out_if_the_episode_asks(
    evaluator: Evaluator, name: str
) -> None:
    episode = noise_episode(load("shipped/digits-cnn"))
    with_rivals = replace(episode, rivals=(0, 1, 2))
    result = evaluator.judge(load_submission(name), with_rivals, 60.0, cold=False).result
    assert result.status == "ok", result.reason
    assert set(result.readouts) == {"argmax-all", "argmax-targets"}
    without = evaluator.judge(load_submission(name), episode, 60.0, cold=False).result
    assert without.readouts == {}
    assert without.measures == result.measures
