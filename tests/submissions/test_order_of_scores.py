"""Whether methods do what their names say, or only move a threshold, as `bias_only` does."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from itertools import islice

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from attnbench.adaptation.detectors import LogOdds
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.tasks import load_task
from tests.submissions.adapted import adapt_submission

# The settings of `mini` whose backbone has an output for every target.
TASKS = ("imagenet-standard", "alpha-blend", "imagenet-a", "noisy-mnist")
# Methods that are to look at glimpses or to remember, with less training than by default to save
# time. `feature_similarity`, which is to tune features, has tests of its own.
LOOK_OR_REMEMBER: dict[str, dict[str, int]] = {
    "edram": {"epochs": 2},
    "glimpse_saccade": {},
    "meta_mapping": {},
    "ram": {"epochs": 2},
    "spiking": {"epochs": 20},
    "stawm": {"epochs": 2},
}
# Methods whose training once stopped before it began, for some targets.
GAINS = ("attention", "feature_gain", "film")


def courses(task: str) -> Iterator[tuple[Backbone, Tensor, Tensor, Tensor]]:
    """Yield a backbone with its target set, positives, negatives and test images, by target."""
    track = load_task(task).tracks["mini"]
    backbone = load(track.backbones[0])
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, None)
    for target in stimuli.targets:
        episode = stimuli.episode(target, 0)
        with_target = copy.deepcopy(backbone)
        with_target.target = episode.label
        images = torch.from_numpy(episode.make(np.arange(0, len(episode.present), 2)))
        yield with_target, torch.from_numpy(episode.pos), torch.from_numpy(episode.neg), images


@cache
def first_courses(task: str) -> tuple[tuple[Backbone, Tensor, Tensor, Tensor], ...]:
    return tuple(islice(courses(task), 2))


def scores_of(detector: nn.Module, images: Tensor) -> NDArray[np.float32]:
    with torch.no_grad():
        scores: NDArray[np.float32] = detector(images).numpy()
    return scores


def log_odds_of_network(backbone: Backbone, images: Tensor) -> NDArray[np.float32]:
    """The order of these is that of the scores of `bias_only`."""
    assert backbone.target is not None
    return scores_of(nn.Sequential(backbone, LogOdds(backbone.target)), images)


@pytest.mark.parametrize("name", LOOK_OR_REMEMBER)
def test_the_order_of_images_is_not_that_of_bias_only(name: str) -> None:
    different = 0
    for task in TASKS:
        correlations = []
        for backbone, pos, neg, images in first_courses(task):
            adapted = adapt_submission(name, backbone, pos, neg, **LOOK_OR_REMEMBER[name])
            scores = scores_of(adapted.delivered, images)
            correlations.append(spearmanr(scores, log_odds_of_network(backbone, images)).statistic)
        different += np.mean(correlations) < 0.98
        # The other settings may not.
        if different == 2:
            return
    pytest.fail(f"only {different} of {len(TASKS)} settings have another order")


@pytest.mark.parametrize("name", GAINS)
def test_no_targets_adaptation_leaves_gains_unchanged(name: str) -> None:
    for backbone, pos, neg, images in islice(courses("imagenet-standard"), 3):
        scores = scores_of(adapt_submission(name, backbone, pos, neg).delivered, images)
        # A threshold moves all scores by the same amount.
        assert np.std(scores - log_odds_of_network(backbone, images)) > 0.02
