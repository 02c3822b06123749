"""The hyperparameters of shipped submissions that were fixed once, by held-out images of `mini`.

    python -m benchmarks.studies.hyperparameters [NAME]…

For each submission with a `learning_rate`, or else one with `enough`, the loss at which training stops:
the balanced loss on a quarter of the adaptation images that it has not seen, at a tenth of the value in
its manifest to ten times as much. No test image has a part in it, and the seeds are none that records
have. Prints a row of the table in docs/methods.md for each; chance is 0.69.
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
from attnbench.adaptation import balanced_loss, held_out
from attnbench.backbones import Backbone, load
from attnbench.resources import submissions_folder
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.submission import MANIFEST, Submission, load_submission
from attnbench.tasks import load_task

# The other two tasks of mini adapt on the pictures of the first.
TASKS = ("imagenet-standard", "noisy-mnist", "cifar-ssl")
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
TARGETS, SEEDS = 4, (1000, 1001)
TRIED = ("learning_rate", "enough")


def episodes() -> Iterator[tuple[Backbone, Tensor, Tensor]]:
    """Backbones with their target set, and the images of both sides."""
    for task in TASKS:
        track = load_task(task).tracks["mini"]
        backbone = load(track.backbones[0])
        stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, None)
        for target, seed in itertools.product(stimuli.targets[:TARGETS], SEEDS):
            episode = stimuli.episode(target, seed)
            aimed = copy.deepcopy(backbone)
            aimed.target = episode.label
            yield aimed, torch.from_numpy(episode.pos), torch.from_numpy(episode.neg)


def tried(submission: Submission) -> str | None:
    """The hyperparameter that is tried, if there is one."""
    return next((name for name in TRIED if name in submission.manifest.hyperparameters), None)


def loss_held_out(
    submission: Submission, backbone: Backbone, pos: Tensor, neg: Tensor, other: dict[str, float]
) -> float:
    """The balanced loss on images that the submission has not adapted on, with other settings."""
    adapt = runpy.run_path(str(submission.folder / "submission.py"))["adapt"]
    (pos_kept, pos_held), (neg_kept, neg_held) = held_out(pos), held_out(neg)
    torch.manual_seed(0)
    settings = submission.hyperparameters_for(backbone.name) | other
    detector = adapt(copy.deepcopy(backbone), pos_kept, neg_kept, **settings).eval()
    with torch.no_grad():
        return balanced_loss(detector(pos_held), detector(neg_held)).item()


def row(submission: Submission, name: str, seen: list[tuple[Backbone, Tensor, Tensor]]) -> str:
    """A row of the table: the values tried, each with the mean loss; the least is in bold."""
    value = submission.manifest.hyperparameters[name]
    assert isinstance(value, float)
    losses = []
    for factor in FACTORS:
        found = []
        for episode in seen:
            try:
                found.append(loss_held_out(submission, *episode, {name: factor * value}))
            except NotApplicable:
                continue
        if not found:
            return f"| `{submission.name}` | not applicable |"
        losses.append(statistics.mean(found))
    values = [f"{factor * value:.2g}" for factor in FACTORS]
    cells = [f"{tried}: {loss:.3f}" for tried, loss in zip(values, losses, strict=True)]
    best = losses.index(min(losses))
    cells[best] = f"**{cells[best]}**"
    return f"| `{submission.name}` | {name} | {' | '.join(cells)} |"


def main(names: list[str]) -> None:
    """Print the table for the named submissions, by default for all that have something to try."""
    folders = [path.parent for path in sorted(submissions_folder().glob(f"*/{MANIFEST}"))]
    chosen = [load_submission(each) for each in names or folders]
    seen = list(episodes())
    print(f"| submission | hyperparameter |{' value: loss |' * len(FACTORS)}")
    print(f"|---|---|{'---|' * len(FACTORS)}")
    for submission in chosen:
        if name := tried(submission):
            print(row(submission, name, seen), flush=True)


if __name__ == "__main__":
    main([str(Path(name)) for name in sys.argv[1:]])
