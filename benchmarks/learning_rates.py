"""Learning rates of the shipped submissions, chosen once by held-out adaptation images of `mini`.

    python benchmarks/learning_rates.py [NAME]…

For each submission with a `learning_rate`: the balanced loss on a quarter of the adaptation images that
it has not seen, at a tenth of the rate in its manifest to ten times as much. No test image has a part
in it, and the seed is none that records have. Prints a row of the table in docs/methods.md for each;
chance is 0.69.
"""

from __future__ import annotations

import copy
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
TARGETS, SEED = 2, 1000


def episodes() -> Iterator[tuple[Backbone, Tensor, Tensor]]:
    """Backbones with their target set, and the images of both sides."""
    for task in TASKS:
        track = load_task(task).tracks["mini"]
        backbone = load(track.backbones[0])
        stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, None)
        for target in stimuli.targets[:TARGETS]:
            episode = stimuli.episode(target, SEED)
            aimed = copy.deepcopy(backbone)
            aimed.target = episode.label
            yield aimed, torch.from_numpy(episode.pos), torch.from_numpy(episode.neg)


def loss_held_out(
    submission: Submission, backbone: Backbone, pos: Tensor, neg: Tensor, learning_rate: float
) -> float:
    """The balanced loss on images that the submission has not adapted on."""
    adapt = runpy.run_path(str(submission.folder / "submission.py"))["adapt"]
    (pos_kept, pos_held), (neg_kept, neg_held) = held_out(pos), held_out(neg)
    settings = submission.hyperparameters_for(backbone.name) | {"learning_rate": learning_rate}
    torch.manual_seed(SEED)
    detector = adapt(copy.deepcopy(backbone), pos_kept, neg_kept, **settings).eval()
    with torch.no_grad():
        return balanced_loss(detector(pos_held), detector(neg_held)).item()


def row(submission: Submission, seen: list[tuple[Backbone, Tensor, Tensor]]) -> str:
    """A row of the table: the rate in the manifest, and the mean loss at each factor of it."""
    rate = submission.manifest.hyperparameters["learning_rate"]
    assert isinstance(rate, float)
    losses = []
    for factor in FACTORS:
        found = []
        for episode in seen:
            try:
                found.append(loss_held_out(submission, *episode, factor * rate))
            except NotApplicable:
                continue
        if not found:
            return ""
        losses.append(statistics.mean(found))
    best = min(losses)
    cells = [f"**{loss:.3f}**" if loss == best else f"{loss:.3f}" for loss in losses]
    return f"| `{submission.name}` | {rate:g} | {' | '.join(cells)} |"


def main(names: list[str]) -> None:
    """Print the table for the named submissions, by default for all that have a learning rate."""
    folders = [path.parent for path in sorted(submissions_folder().glob(f"*/{MANIFEST}"))]
    chosen = [load_submission(each) for each in names or folders]
    seen = list(episodes())
    print(f"| submission | learning rate | {' | '.join(f'× {f:g}' for f in FACTORS)} |")
    print(f"|---|---|{'---|' * len(FACTORS)}")
    for submission in chosen:
        if "learning_rate" in submission.manifest.hyperparameters:
            print(row(submission, seen) or f"| `{submission.name}` | not applicable |", flush=True)


if __name__ == "__main__":
    main([str(Path(name)) for name in sys.argv[1:]])
