"""Where the time of judging `attention` on a target goes: one adaptation, tested on three tasks.

    ATTNBENCH_DATA=DIR python -m benchmarks run benchmarks/test_track.py

The benchmarks of `small` and `photographs` are skipped without their data.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from attnbench.adaptation import channels_last
from attnbench.judge.conditions import Conditions
from attnbench.judge.judge import open_judge
from attnbench.judge.resource_cache import ResourceCache
from attnbench.judge.template import MALLOC_TUNABLES
from attnbench.submission import load_submission
from attnbench.tasks import Track, load_task
from benchmarks.conftest import Keep
from benchmarks.measured import Figure
from benchmarks.rounds import in_process, in_rounds, seconds_of

TABLE = "a target in parts"
TASKS = ("imagenet-standard", "alpha-blend", "imagenet-a")
ADDED = "what the judge adds to each of three tests"
ADDED_SHARE = "what the judge adds, of everything"
OVER_BARE = "everything, over the adaptation and the bare loop"
UNITS = {ADDED_SHARE: "%", OVER_BARE: ""}
# The aims in shares were set for targets with 2,000 negatives to test on, as on `photographs`.
AIMS = {("mini", ADDED): 0.12} | {
    (track, row): aim
    for track in ("small", "photographs")
    for row, aim in ((ADDED_SHARE, 0.03), (OVER_BARE, 1.15))
}
ROUNDS = {"mini": 15, "small": 5, "photographs": 3}


@pytest.mark.slow
@pytest.mark.parametrize("track", ROUNDS)
def test_a_target_in_parts(benchmark: BenchmarkFixture, keep: Keep, track: str) -> None:
    """The seconds of each part, those of the whole, and those of a bare loop in the same round."""
    data = os.environ.get("ATTNBENCH_DATA")
    if track != "mini" and data is None:
        pytest.skip("the variable ATTNBENCH_DATA must name the data folder")
    definitions = definitions_of(track)
    name = definitions[0].backbones[0]
    submission = load_submission("attention")

    def measure() -> dict[str, float]:
        target = next(targets)
        evaluator.timer.seconds.clear()
        started = time.perf_counter()
        episodes = [each.episode(target, 0) for each in stimuli]
        drawn = time.perf_counter() - started
        outcomes = evaluator.judge_all(submission, episodes, 300.0, cold=False)
        whole = time.perf_counter() - started
        costs = [outcome.result.cost for outcome in outcomes if outcome.result.cost is not None]
        assert len(costs) == len(episodes), outcomes[0].result.reason
        adaptation = costs[0].adaptation_seconds
        prediction = sum(cost.prediction_seconds for cost in costs)
        phases = evaluator.timer.seconds
        bare = in_process(MALLOC_TUNABLES, bare_loop, track, target, data)
        added = whole - drawn - adaptation - prediction
        return {
            "images drawn and decoded": drawn,
            "the pass and the rehearsal": phases["pass, rehearsal and adaptation"] - adaptation,
            "the adaptation": adaptation,
            "prediction": prediction,
            "the second look, and loading the detector twice": phases["prediction"] - prediction,
            "everything": whole,
            ADDED: added / len(TASKS),
            ADDED_SHARE: added / whole,
            "a bare loop over the test images": bare,
            OVER_BARE: whole / (adaptation + bare),
        }

    conditions = Conditions(
        isolation="process", data=data and Path(data), modules=submission.modules
    )
    with open_judge(conditions) as judge:
        evaluator = judge.evaluator(name)
        stimuli = [judge.resources.stimuli(definition, name) for definition in definitions]
        targets = iter(stimuli[0].targets)
        rounds = in_rounds(benchmark, measure, ROUNDS[track])
    keep(
        TABLE,
        *(
            Figure(
                row=row,
                column=f"`{track}`",
                unit=UNITS.get(row, "s"),
                values=[each[row] for each in rounds],
                aim=AIMS.get((track, row)),
            )
            for row in rounds[0]
        ),
    )


def definitions_of(track: str) -> list[Track]:
    """Return the definitions of the tasks that share an adaptation."""
    return [load_task(name).tracks[track] for name in TASKS]


def bare_loop(track: str, target: str, data: str | None) -> float:
    """Return the seconds that the backbone alone takes for the test images of a target.

    Call it in a new process. The images are made before the clock starts.
    """
    resources = ResourceCache(data and Path(data), untrained=False)
    definitions = definitions_of(track)
    name = definitions[0].backbones[0]
    backbone, seconds = resources.backbone(name), 0.0
    with torch.no_grad():
        for definition in definitions:
            episode = resources.stimuli(definition, name).episode(target, 0)
            for rows in episode.batches(np.arange(len(episode.present))):
                images = channels_last(torch.from_numpy(episode.make(rows)))
                seconds += seconds_of(partial(backbone, images))
    return seconds
