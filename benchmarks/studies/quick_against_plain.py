"""Do frozen parts in bfloat16 change what a method finds? On photographs, score by score.

    ATTNBENCH_DATA=../shared/data python -m benchmarks.studies.quick_against_plain attention film …

For each target of `imagenet-standard` on `small`: a submission adapts as it does here, with all frozen
parts in bfloat16 however small the network is, and with all of it in float32; each detector sees the
test images. Prints how scores correlate with those of float32 (the least of all targets), and the mean
differences of d' and d_a with 95 % intervals over targets. Where the processor has no units for
bfloat16, all are the same.
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
from attnbench.statistics.detection import Detection, detect
from attnbench.statistics.intervals import mean_interval
from attnbench.stimuli.episodes import Episode, TrackStimuli
from attnbench.submission import load_submission
from attnbench.tasks import load_task
from tests.submissions.adapted import module_of

Scores = NDArray[np.float32]


def episodes(data: Path) -> Iterator[tuple[Backbone, Episode]]:
    """Each target's, with the backbone that is to be adapted."""
    track = load_task("imagenet-standard").tracks["small"]
    backbone = load(track.backbones[0], data=data)
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, data)
    for target in stimuli.targets:
        episode = stimuli.episode(target, seed=0)
        backbone.target = episode.label
        yield backbone, episode


def scores(name: str, backbone: Backbone, episode: Episode) -> Scores:
    """What a submission's detector says of the test images, `[n]`."""
    torch.manual_seed(episode.seed)
    settings = load_submission(name).hyperparameters_for(backbone.name)
    sides = torch.from_numpy(episode.pos), torch.from_numpy(episode.neg)
    detector = module_of(name).adapt(copy.deepcopy(backbone), *sides, **settings).eval()
    said = []
    with torch.no_grad():
        for rows in episode.batches(np.arange(len(episode.present))):
            said.append(detector(torch.from_numpy(episode.make(rows))).numpy())
    return np.concatenate(said)[: len(episode.present)]


@contextmanager
def bfloat16(used: bool) -> Iterator[None]:
    """What learns nothing in bfloat16, of any size, or none of it."""
    module = "attnbench.adaptation.bfloat16"
    none = mock.patch(f"{module}.multiplies_bfloat16", return_value=False)
    with mock.patch(f"{module}._WORTH_IT", 0) if used else none:
        yield


@dataclass(frozen=True)
class Beside:
    """What a method found for a target, beside what it found all in float32."""

    correlation: float
    quick: Detection
    plain: Detection

    @classmethod
    def of(cls, quick: Scores, plain: Scores, present: NDArray[np.bool_]) -> Beside:
        correlation = float(np.corrcoef(quick, plain)[0, 1])
        return cls(correlation, detect(quick, present), detect(plain, present))


def differences(targets: list[Beside]) -> Iterator[str]:
    """Of d' and of d_a, quick less plain: the mean and its interval over targets."""
    for measure in ("d_prime", "d_a"):
        less = [getattr(each.quick, measure) - getattr(each.plain, measure) for each in targets]
        low, high = mean_interval([np.array(less)])
        yield f"{np.mean(less):+.3f} [{low:+.3f}, {high:+.3f}]"


def main(names: list[str]) -> None:
    """Print two rows for each submission."""
    found: dict[str, list[Beside]] = defaultdict(list)
    for backbone, episode in episodes(Path(os.environ["ATTNBENCH_DATA"])):
        for name in names:
            with bfloat16(False):
                plain = scores(name, backbone, episode)
            with bfloat16(True):
                all_quick = scores(name, backbone, episode)
            as_shipped = scores(name, backbone, episode)
            for row, quick in (f"`{name}`", as_shipped), (f"`{name}`, bfloat16", all_quick):
                found[row].append(Beside.of(quick, plain, episode.present))
    print("| submission | least correlation | d′, quick less plain | d_a, quick less plain |")
    print("|---|---|---|---|")
    for name, targets in found.items():
        cells = [f"{min(each.correlation for each in targets):.5f}", *differences(targets)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(sys.argv[1:] or ["attention", "last_layer", "linear_probe", "film"])
