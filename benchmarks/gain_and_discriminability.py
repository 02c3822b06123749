"""Does `feature_gain` amplify the filters that told the target apart to begin with?

For each convolution and each target of mini's `imagenet-standard`: the Spearman rank correlation
between a filter's learned gain and its d' before adaptation, the analysis of the thesis that the
method comes from. Prints a Markdown table:

    python benchmarks/gain_and_discriminability.py
"""

from __future__ import annotations

import copy
import sys
from types import ModuleType

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from attnbench.adaptation import Gains, behind_filters, frozen_outputs
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.stimuli.episodes import Episode, TrackStimuli
from attnbench.submission import load_submission
from attnbench.tasks import load_task
from tests.submissions.adapted import module_of


class Response(nn.Module):
    """Keeps what each filter answers to each image: its rectified maps' mean over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Tensor] = []

    def forward(self, maps: Tensor) -> Tensor:
        self.answers.append(maps.relu().mean(dim=(2, 3)))
        return maps


def d_prime(pos: Tensor, neg: Tensor) -> Tensor:
    """(mean of positives - mean of negatives) / sqrt of their mean variance, `[n, k]` to `[k]`.

    0 for a filter that answers the same to all images.
    """
    noise = ((pos.var(dim=0) + neg.var(dim=0)) / 2).sqrt()
    return torch.where(noise > 0, (pos.mean(dim=0) - neg.mean(dim=0)) / noise, 0.0)


def responses(backbone: Backbone, images: Tensor) -> list[Tensor]:
    """What the filters behind each convolution answer, `[n, k]` each, in the network's order."""
    network = copy.deepcopy(backbone)
    recorders = behind_filters(network, images[:1], lambda channels: Response())
    frozen_outputs(network, images)
    return [torch.cat(recorder.answers) for recorder in recorders]


def correlations(backbone: Backbone, episode: Episode, method: ModuleType) -> list[float]:
    """Spearman's rho of gain and d' for each convolution.

    d' is measured on the test images, which the gains were not learned from.
    """
    adapted = copy.deepcopy(backbone)
    adapted.target = episode.label
    settings = load_submission("feature_gain").hyperparameters_for(backbone.name)
    pos, neg = torch.from_numpy(episode.pos), torch.from_numpy(episode.neg)
    detector = method.adapt(adapted, pos, neg, **settings)
    learned = [m.gains.detach().flatten() for m in detector.modules() if isinstance(m, Gains)]
    test = torch.from_numpy(episode.make(np.arange(len(episode.present))))
    present = torch.from_numpy(episode.present)
    return [
        spearmanr(gains, d_prime(answers[present], answers[~present])).statistic
        for gains, answers in zip(learned, responses(backbone, test), strict=True)
    ]


def main() -> None:
    track = load_task("imagenet-standard").tracks["mini"]
    backbone = load(track.backbones[0])
    method = module_of("feature_gain")
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
