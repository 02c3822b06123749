"""Spikes and decision times of `spiking` under both learning rules, on `mini`.

    python -m benchmarks.studies.spiking [--seeds 1]

For each task and rule, printed are means over targets and seeds: d_a on the test images, the spikes
of an image up to the decision, and the step of the decision. Input cells, hidden and output neurons
spike at most once each. Time ends at the last step, also where no output neuron fires.
"""

from __future__ import annotations

import argparse
import copy
import itertools
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate

from attnbench.backbones import load
from attnbench.statistics.detection import detect
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.submission import load_submission
from attnbench.tasks import load_task
from tests.submissions.adapted import load_program

TASKS = ("imagenet-standard", "alpha-blend", "noisy-mnist", "cifar-ssl")
RULES = ("latency", "surrogate")


def measures(task: str, rule: str, seeds: int) -> Iterator[NDArray[np.float64]]:
    """Yield d_a, spikes and decision time, `[3]`, of each target and seed."""
    track = load_task(task).tracks["mini"]
    backbone = load(track.backbones[0])
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, None)
    program = load_program("spiking")
    hyperparameters = load_submission("spiking").hyperparameters_for(backbone.name) | {"rule": rule}
    for target, seed in itertools.product(stimuli.targets, range(seeds)):
        episode = stimuli.episode(target, seed)
        network = copy.deepcopy(backbone)
        network.target = episode.label
        torch.manual_seed(seed)
        images = (torch.from_numpy(episode.pos), torch.from_numpy(episode.neg))
        detector = program.adapt(network, *images, **hyperparameters).eval()
        test = torch.from_numpy(episode.make(np.arange(len(episode.present))))
        with torch.no_grad():
            scores = detector(test).numpy()
            spikes, times = detector.spikes_and_times(test)
        d_a = detect(scores, episode.present).d_a
        yield np.array([d_a, spikes.double().mean().item(), times.double().mean().item()])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="spikes and decision times of both rules")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for task, rule in itertools.product(TASKS, RULES):
        d_a, spikes, time = np.mean(list(measures(task, rule, options.seeds)), axis=0)
        rows.append((task, rule, f"{d_a:.2f}", f"{spikes:.0f}", f"{time:.1f}"))
    print(tabulate(rows, ("task", "rule", "d_a", "spikes", "decision, steps"), tablefmt="github"))


if __name__ == "__main__":
    main()
