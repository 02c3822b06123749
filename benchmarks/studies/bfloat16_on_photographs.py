"""How much do results on photographs change if frozen layers compute in bfloat16?

    ATTNBENCH_DATA=../shared/data python -m benchmarks.studies.bfloat16_on_photographs [SUBMISSION…]

For each target of `imagenet-standard` on `photographs`, a submission with the hyperparameter
`precision` adapts in float32 and in bfloat16. Each detector scores the test images. Printed are the
lowest correlation over targets of the two detectors' scores, and the mean differences in d' and d_a
with 95 % intervals over targets.
"""

from __future__ import annotations

import copy
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from attnbench.adaptation import Precision
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.statistics.detection import detect
from attnbench.statistics.intervals import mean_interval
from attnbench.statistics.measures import Detection
from attnbench.stimuli.episode import Episode
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.submission import load_submission
from attnbench.tasks import load_task
from tests.submissions.adapted import load_program

Scores = NDArray[np.float32]


def episodes(data: Path) -> Iterator[tuple[Backbone, Episode]]:
    """Yield the backbone, with its target set, and the episode of each target."""
    track = load_task("imagenet-standard").tracks["photographs"]
    backbone = load(track.backbones[0], data=data)
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, data)
    for target in stimuli.targets:
        episode = stimuli.episode(target, seed=0)
        backbone.target = episode.label
        yield backbone, episode


def score(name: str, backbone: Backbone, episode: Episode, precision: Precision) -> Scores:
    """Adapt with a submission in a precision and return its scores of the test images, `[n]`."""
    torch.manual_seed(episode.seed)
    hyperparameters = load_submission(name).hyperparameters_for(backbone.name)
    hyperparameters["precision"] = precision
    images = torch.from_numpy(episode.pos), torch.from_numpy(episode.neg)
    detector = load_program(name).adapt(copy.deepcopy(backbone), *images, **hyperparameters).eval()
    batches = episode.batches(np.arange(len(episode.present)))
    with torch.no_grad():
        scores = [detector(torch.from_numpy(episode.make(rows))).numpy() for rows in batches]
    return np.concatenate(scores)[: len(episode.present)]


@dataclass(frozen=True)
class Comparison:
    """Results for a target, compared with those in float32.

    Attributes:
        correlation: of the scores.
        tested: the detection to compare.
        float32: the detection in float32.
    """

    correlation: float
    tested: Detection
    float32: Detection

    @classmethod
    def of(cls, tested: Scores, float32: Scores, present: NDArray[np.bool_]) -> Comparison:
        """Compare two sets of scores `[n]` of the same images."""
        correlation = float(np.corrcoef(tested, float32)[0, 1])
        return cls(correlation, detect(tested, present), detect(float32, present))


def differences(targets: list[Comparison]) -> Iterator[str]:
    """Yield the mean difference from float32 and its interval over targets, for d' and for d_a."""
    for measure in ("d_prime", "d_a"):
        values = [
            getattr(target.tested, measure) - getattr(target.float32, measure) for target in targets
        ]
        low, high = mean_interval(np.array(values))
        yield f"{np.mean(values):+.3f} [{low:+.3f}, {high:+.3f}]"


def main(names: list[str]) -> None:
    """Print a row for each submission."""
    comparisons: dict[str, list[Comparison]] = defaultdict(list)
    for backbone, episode in episodes(Path(os.environ["ATTNBENCH_DATA"])):
        for name in names:
            float32, bfloat16 = (
                score(name, backbone, episode, precision) for precision in get_args(Precision)
            )
            comparisons[name].append(Comparison.of(bfloat16, float32, episode.present))
    print("| submission | least correlation | d′, less float32's | d_a, less float32's |")
    print("|---|---|---|---|")
    for name, targets in comparisons.items():
        cells = [f"{min(target.correlation for target in targets):.5f}", *differences(targets)]
        print(f"| `{name}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(sys.argv[1:] or ["attention", "last_layer", "linear_probe"])
