"""How much do results on photographs change if frozen layers run in bfloat16?

    ATTNBENCH_DATA=../shared/data python -m benchmarks.studies.quick_against_plain attention film …

For each target of `imagenet-standard` on `small`, a submission adapts three times: with everything
in float32, with all frozen layers in bfloat16 whatever the size of the network, and by default.
Each detector scores the test images. Printed are the lowest correlation over targets with the
scores in float32, and the mean differences in d' and d_a with 95 % intervals over targets. On a
processor without units for bfloat16, all results are the same.
"""

from __future__ import annotations

import copy
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.statistics.detection import detect
from attnbench.statistics.intervals import mean_interval
from attnbench.statistics.measures import Detection
from attnbench.stimuli.episodes import Episode, TrackStimuli
from attnbench.submission import load_submission
from attnbench.tasks import load_task
from tests.submissions.adapted import load_program

Scores = NDArray[np.float32]


def episodes(data: Path) -> Iterator[tuple[Backbone, Episode]]:
    """Yield the backbone, with its target set, and the episode of each target."""
    track = load_task("imagenet-standard").tracks["small"]
    backbone = load(track.backbones[0], data=data)
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, data)
    for target in stimuli.targets:
        episode = stimuli.episode(target, seed=0)
        backbone.target = episode.label
        yield backbone, episode


def score(name: str, backbone: Backbone, episode: Episode) -> Scores:
    """Adapt with a submission and return its scores of the test images, `[n]`."""
    torch.manual_seed(episode.seed)
    hyperparameters = load_submission(name).hyperparameters_for(backbone.name)
    images = torch.from_numpy(episode.pos), torch.from_numpy(episode.neg)
    detector = load_program(name).adapt(copy.deepcopy(backbone), *images, **hyperparameters).eval()
    batches = episode.batches(np.arange(len(episode.present)))
    with torch.no_grad():
        scores = [detector(torch.from_numpy(episode.make(rows))).numpy() for rows in batches]
    return np.concatenate(scores)[: len(episode.present)]


@contextmanager
def bfloat16(used: bool) -> Iterator[None]:
    """Run frozen layers of networks of any size in bfloat16, or of none."""
    module = "attnbench.adaptation.bfloat16"
    unsupported = mock.patch(f"{module}.supports_bfloat16", return_value=False)
    with mock.patch(f"{module}._MIN_PARAMETERS", 0) if used else unsupported:
        yield


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
        low, high = mean_interval([np.array(values)])
        yield f"{np.mean(values):+.3f} [{low:+.3f}, {high:+.3f}]"


def main(names: list[str]) -> None:
    """Print two rows for each submission."""
    comparisons: dict[str, list[Comparison]] = defaultdict(list)
    for backbone, episode in episodes(Path(os.environ["ATTNBENCH_DATA"])):
        for name in names:
            with bfloat16(False):
                float32 = score(name, backbone, episode)
            with bfloat16(True):
                in_bfloat16 = score(name, backbone, episode)
            as_shipped = score(name, backbone, episode)
            rows = {f"`{name}`": as_shipped, f"`{name}`, bfloat16": in_bfloat16}
            for row, scores in rows.items():
                comparisons[row].append(Comparison.of(scores, float32, episode.present))
    print("| submission | least correlation | d′, less float32's | d_a, less float32's |")
    print("|---|---|---|---|")
    for row, targets in comparisons.items():
        cells = [f"{min(target.correlation for target in targets):.5f}", *differences(targets)]
        print(f"| {row} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(sys.argv[1:] or ["attention", "last_layer", "linear_probe", "film"])
