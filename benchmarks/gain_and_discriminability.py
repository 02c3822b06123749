"""Does `feature_gain` amplify the filters most that discriminated the target before adaptation?

For each convolution and each target of `imagenet-standard` on `mini`, this prints the Spearman rank
correlation between a filter's trained gain and its d' before adaptation. It is the analysis of the
thesis that the method comes from. The output is a Markdown table:

    python -m benchmarks.gain_and_discriminability
"""

from __future__ import annotations

import copy
import sys
from types import ModuleType

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from attnbench.adaptation import Gains, frozen_features, insert_after_convolutions
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.stimuli.episode import Episode
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.submission import load_submission
from attnbench.tasks import load_task
from tests.submissions.adapted import load_program


class ResponseRecorder(nn.Module):
    """Record each filter's response to each image: its rectified map's mean over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.responses: list[Tensor] = []

    def forward(self, maps: Tensor) -> Tensor:
        self.responses.append(maps.relu().mean(dim=(2, 3)))
        return maps


def d_prime(pos: Tensor, neg: Tensor) -> Tensor:
    """Return d' `[k]` of k filters from their responses `[n, k]` to positives and to negatives.

    d' = (mean of positives - mean of negatives) / sqrt of their mean variance, and 0 for a filter
    with the same response to all images.
    """
    noise = ((pos.var(dim=0) + neg.var(dim=0)) / 2).sqrt()
    return torch.where(noise > 0, (pos.mean(dim=0) - neg.mean(dim=0)) / noise, 0.0)


def responses(backbone: Backbone, images: Tensor) -> list[Tensor]:
    """Return the responses `[n, k]` of the filters of each convolution, in the network's order."""
    network = copy.deepcopy(backbone)
    recorders = insert_after_convolutions(network, images[:1], lambda channels: ResponseRecorder())
    frozen_features(network, images)
    return [torch.cat(recorder.responses) for recorder in recorders]


def correlations(backbone: Backbone, episode: Episode, method: ModuleType) -> list[float]:
    """Return Spearman's rho between gain and d' for each convolution.

    d' is measured on the test images, which the gains were not trained on.
    """
    adapted = copy.deepcopy(backbone)
    adapted.target = episode.label
    hyperparameters = load_submission("feature_gain").hyperparameters_for(backbone.name)
    pos, neg = torch.from_numpy(episode.pos), torch.from_numpy(episode.neg)
    detector = method.adapt(adapted, pos, neg, **hyperparameters)
    trained_gains = [
        module.gains.detach().flatten()
        for module in detector.modules()
        if isinstance(module, Gains)
    ]
    test = torch.from_numpy(episode.make(np.arange(len(episode.present))))
    present = torch.from_numpy(episode.present)
    return [
        spearmanr(gains, d_prime(rows[present], rows[~present])).statistic
        for gains, rows in zip(trained_gains, responses(backbone, test), strict=True)
    ]


def main() -> None:
    """Print the table."""
    track = load_task("imagenet-standard").tracks["mini"]
    backbone = load(track.backbones[0])
    method = load_program("feature_gain")
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, None)
    columns = []
    for target in stimuli.targets:
        print(target, file=sys.stderr)
        columns.append(correlations(backbone, stimuli.episode(target, 0), method))
    table = np.array(columns).T
    print("| convolution |", " | ".join(stimuli.targets), "| mean |")
    print("|---|" + "---|" * (len(stimuli.targets) + 1))
    for number, row in enumerate(table, start=1):
        print(f"| {number} |", " | ".join(f"{rho:+.2f}" for rho in [*row, row.mean()]), "|")


if __name__ == "__main__":
    main()
