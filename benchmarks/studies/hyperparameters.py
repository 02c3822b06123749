"""The choice of fixed hyperparameters, on held-out adaptation images of `mini`.

    python -m benchmarks.studies.hyperparameters [NAME]…

The hyperparameter is the `learning_rate` of a submission or, if it has none, its `penalty`. It is
varied from a tenth to ten times its value in the manifest. For each value, the submission adapts to
three quarters of the adaptation images, and the class-balanced loss is measured on the others. Test
images have no part in it, and no record has these seeds. Printed is a row of the table in
docs/methods.md for each submission. Chance is a loss of 0.69.
"""

from __future__ import annotations

import copy
import itertools
import runpy
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from attnbench import NotApplicable
from attnbench.adaptation import balanced_loss, validation_split
from attnbench.backbones import Backbone, load
from attnbench.resources import submissions_folder
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.submission import MANIFEST, Submission, load_submission
from attnbench.tasks import load_task

# The other two tasks of `mini` adapt to the pictures of the first.
TASKS = ("imagenet-standard", "noisy-mnist", "cifar-ssl")
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
TARGETS, SEEDS = 4, (1000, 1001)
VARIED = ("learning_rate", "penalty")


def episodes() -> Iterator[tuple[Backbone, Tensor, Tensor]]:
    """Yield backbones with their target set, positives and negatives."""
    for task in TASKS:
        track = load_task(task).tracks["mini"]
        backbone = load(track.backbones[0])
        stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, None)
        for target, seed in itertools.product(stimuli.targets[:TARGETS], SEEDS):
            episode = stimuli.episode(target, seed)
            with_target = copy.deepcopy(backbone)
            with_target.target = episode.label
            yield with_target, torch.from_numpy(episode.pos), torch.from_numpy(episode.neg)


def varied_hyperparameter(submission: Submission) -> str | None:
    """Return the name of the hyperparameter to vary, or None."""
    names = submission.manifest.hyperparameters
    return next((name for name in VARIED if name in names), None)


def validation_loss(
    submission: Submission,
    backbone: Backbone,
    pos: Tensor,
    neg: Tensor,
    overrides: dict[str, float],
) -> float:
    """Return the class-balanced loss on images that the submission did not adapt to."""
    adapt = runpy.run_path(str(submission.folder / "submission.py"))["adapt"]
    (pos_train, pos_validation), (neg_train, neg_validation) = map(validation_split, (pos, neg))
    torch.manual_seed(0)
    hyperparameters = submission.hyperparameters_for(backbone.name) | overrides
    detector = adapt(copy.deepcopy(backbone), pos_train, neg_train, **hyperparameters).eval()
    with torch.no_grad():
        return balanced_loss(detector(pos_validation), detector(neg_validation)).item()


def row(
    submission: Submission, name: str, all_episodes: list[tuple[Backbone, Tensor, Tensor]]
) -> str:
    """Return a row of the table: each value with its mean loss, the lowest loss in bold."""
    value = submission.manifest.hyperparameters[name]
    assert isinstance(value, float)
    mean_losses = []
    for factor in FACTORS:
        losses = []
        for episode in all_episodes:
            try:
                losses.append(validation_loss(submission, *episode, {name: factor * value}))
            except NotApplicable:
                continue
        if not losses:
            return f"| `{submission.name}` | not applicable |"
        mean_losses.append(statistics.mean(losses))
    values = [f"{factor * value:.2g}" for factor in FACTORS]
    cells = [f"{text}: {loss:.3f}" for text, loss in zip(values, mean_losses, strict=True)]
    best = mean_losses.index(min(mean_losses))
    cells[best] = f"**{cells[best]}**"
    return f"| `{submission.name}` | {name} | {' | '.join(cells)} |"


def main(names: list[str]) -> None:
    """Print the table for the named submissions, by default for all with such a hyperparameter."""
    folders = [path.parent for path in sorted(submissions_folder().glob(f"*/{MANIFEST}"))]
    submissions = [load_submission(name) for name in names or folders]
    all_episodes = list(episodes())
    print(f"| submission | hyperparameter |{' value: loss |' * len(FACTORS)}")
    print(f"|---|---|{'---|' * len(FACTORS)}")
    for submission in submissions:
        if name := varied_hyperparameter(submission):
            print(row(submission, name, all_episodes), flush=True)


if __name__ == "__main__":
    main([str(Path(name)) for name in sys.argv[1:]])
