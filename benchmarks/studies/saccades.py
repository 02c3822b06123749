"""d_a against the share of pixels that `glimpse_saccade` and `glimpse_random` see.

    python -m benchmarks.studies.saccades [--task imagenet-standard] [--seeds 1]

Printed is the mean d_a over the targets of a task of `mini`, with its 95 % interval, for patches that
are chosen by the activity of feature maps, by a learned policy, and at random. With all patches, the
three are `last_layer`.
"""

from __future__ import annotations

import argparse
import copy
import itertools

import numpy as np
import torch
from tabulate import tabulate

from attnbench.backbones import load
from attnbench.statistics.detection import detect
from attnbench.statistics.intervals import mean_interval
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.submission import load_submission
from attnbench.tasks import load_task
from tests.submissions.adapted import load_program

SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
POLICIES: dict[str, tuple[str, dict[str, str]]] = {
    "activity": ("glimpse_saccade", {"policy": "activity"}),
    "learned": ("glimpse_saccade", {"policy": "learned"}),
    "random": ("glimpse_random", {}),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="d_a against the share of pixels")
    parser.add_argument("--task", default="imagenet-standard")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    track = load_task(options.task).tracks["mini"]
    backbone = load(track.backbones[0])
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, None)
    values: dict[tuple[str, float], list[float]] = {}
    for target, seed in itertools.product(stimuli.targets, range(options.seeds)):
        episode = stimuli.episode(target, seed)
        pos, neg = torch.from_numpy(episode.pos), torch.from_numpy(episode.neg)
        images = torch.from_numpy(episode.make(np.arange(len(episode.present))))
        for (policy, (name, settings)), share in itertools.product(POLICIES.items(), SHARES):
            with_target = copy.deepcopy(backbone)
            with_target.target = episode.label
            hyperparameters = load_submission(name).hyperparameters_for(backbone.name)
            hyperparameters |= settings | {"kept_fraction": share}
            torch.manual_seed(seed)
            detector = load_program(name).adapt(with_target, pos, neg, **hyperparameters).eval()
            with torch.no_grad():
                scores = torch.cat([detector(rows) for rows in images.split(16)]).numpy()
            d_a = detect(scores, episode.present).d_a
            values.setdefault((policy, share), []).append(d_a)
    rows = []
    for share in SHARES:
        cells = []
        for policy in POLICIES:
            d_as = np.array(values[policy, share])
            low, high = mean_interval(d_as)
            cells.append(f"{d_as.mean():.2f} [{low:.2f}, {high:.2f}]")
        rows.append((f"{share:.0%}", *cells))
    print(tabulate(rows, ("pixels", *POLICIES), tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
