"""Do learning rates travel? Each method at five rates, on each backbone, with targets of no record.

    python -m benchmarks.studies.learning_rates --data DATA [--jobs 2] [--method NAME] [--write]

The hyperparameter is the learning rate of a submission or, if it has none, the penalty on its gains.
It is varied from a tenth to ten times its value in the manifest. The submission as shipped is
measured too: some choose their rate within the adaptation.

The targets are a quarter of the figures' classes and a fifth of those of Tiny ImageNet that no task
uses. Digits and CIFAR-10 have no classes to spare, so the targets are the same there, but the seed
is not that of any record. The images that d_a is measured on are not adapted to, and are no task's
test images. d_a does not depend on the threshold, so it measures sensitivity alone.

Each result is added to `learning_rates.json` beside this file, in which it replaces an earlier one.
`--write` writes the table in docs/methods.md from that file.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import runpy
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

from attnbench import NotApplicable
from attnbench.backbones import load
from attnbench.backbones.backbone import Backbone
from attnbench.resources import submissions_folder
from attnbench.statistics.detection import detect
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.stimuli.figures import CLASSES, draw
from attnbench.stimuli.preprocessing import in_unit_range, normalise
from attnbench.submission import MANIFEST, Submission, load_submission
from attnbench.tasks import load_task
from benchmarks.studies.pages import DOCS, write_block

FACTORS = (0.1, 1 / 3, 1.0, 3.0, 10.0)
AS_SHIPPED = "as shipped"

# Each backbone, with the track of tuning.toml that has its images and the number of positives, and
# of negatives, to adapt to. These are the numbers of `mini` and `small`.
BACKBONES = {
    "shipped/figures-vgg": ("figures", 24),
    "shipped/figures-resnet": ("figures", 24),
    "shipped/figures-vit": ("figures", 24),
    "shipped/figures-simclr": ("figures", 24),
    "shipped/digits-cnn": ("digits", 20),
    "shipped/mnist-cnn": ("mnist", 100),
    "shipped/cifar-vae": ("cifar", 200),
    "shipped/cifar-simclr": ("cifar", 200),
    "torchvision/squeezenet1_1": ("photographs", 64),
}
FIGURES = (
    "cool plain disc",
    "warm striped disc",
    "warm dotted square",
    "cool striped square",
    "cool checked triangle",
    "warm plain triangle",
    "warm dotted star",
    "cool checked star",
    "cool dotted ring",
    "warm checked ring",
)
SEED = 1000
# No task draws figures with indices as large as this.
_FIRST_FIGURE, _HELD_OUT_POSITIVES, _HELD_OUT_PER_NEGATIVE = 1000, 40, 4

_FOLDER = Path(__file__).parent
TUNING = _FOLDER / "tuning.toml"
RESULTS = _FOLDER / "learning_rates.json"
PAGE, BLOCK = DOCS / "methods.md", "learning rates"

# Means over targets by submission, backbone and factor; None where a submission is not applicable.
Results = dict[str, dict[str, dict[str, float] | None]]


@dataclass(frozen=True)
class Course:
    """A target's images, `[n, 3, h, w]` each, and the backbone with the target set."""

    backbone: Backbone
    pos: Tensor
    neg: Tensor
    held_out_pos: Tensor
    held_out_neg: Tensor


@cache
def courses(name: str, targets: int, data: Path | None) -> tuple[Course, ...]:
    """Return the first few targets of a backbone."""
    backbone = load(name, data=data)
    track, count = BACKBONES[name]
    images = figures(backbone) if track == "figures" else pictures(backbone, track, data)
    found = []
    for (pos, neg, label), _ in zip(images, range(targets), strict=False):
        with_target = copy.deepcopy(backbone)
        with_target.target = label
        found.append(Course(with_target, pos[:count], neg[:count], pos[count:], neg[count:]))
    return tuple(found)


def figures(backbone: Backbone) -> Iterator[tuple[Tensor, Tensor, int | None]]:
    """Yield positives, negatives and the backbone's label of each target."""

    def images(label: int, first: int, count: int) -> Tensor:
        pixels = draw("adapt", label, _FIRST_FIGURE + np.arange(first, first + count))
        return torch.from_numpy(normalise(in_unit_range(pixels), backbone.preprocessing))

    _, count = BACKBONES["shipped/figures-vgg"]
    for target in FIGURES:
        label = CLASSES.index(target)
        others = np.random.default_rng(label).permutation(np.delete(np.arange(len(CLASSES)), label))
        adapt = [images(other, 0, 1) for other in others[:count]]
        held_out = [images(other, 1, _HELD_OUT_PER_NEGATIVE) for other in others]
        pos = images(label, 0, count + _HELD_OUT_POSITIVES)
        yield pos, torch.cat(adapt + held_out), label if backbone.labels else None


def pictures(
    backbone: Backbone, track_name: str, data: Path | None
) -> Iterator[tuple[Tensor, Tensor, int | None]]:
    """Yield positives, negatives and the backbone's label of each target."""
    track = load_task(str(TUNING)).tracks[track_name]
    stimuli = TrackStimuli(track, backbone.preprocessing, backbone.labels, data)
    for target in stimuli.targets:
        episode = stimuli.episode(target, SEED)
        yield torch.from_numpy(episode.pos), torch.from_numpy(episode.neg), episode.label


def varied_hyperparameters(submission: Submission) -> list[str]:
    """Return the names of the hyperparameters that are varied together."""
    names = submission.manifest.hyperparameters
    rates = [name for name in ("learning_rate", "new_target_rate") if name in names]
    return rates or [name for name in ("penalty",) if name in names]


def d_a(submission: Submission, course: Course, overrides: Mapping[str, object]) -> float:
    """Return d_a on the images that the submission did not adapt to."""
    adapt = runpy.run_path(str(submission.folder / "submission.py"))["adapt"]
    torch.manual_seed(SEED)
    settings = submission.hyperparameters_for(course.backbone.name) | dict(overrides)
    detector = adapt(copy.deepcopy(course.backbone), course.pos, course.neg, **settings).eval()
    images = torch.cat([course.held_out_pos, course.held_out_neg])
    with torch.no_grad():
        scores = torch.cat([detector(rows) for rows in images.split(16)]).double().numpy()
    # Training that diverged.
    if not np.isfinite(scores).all():
        return 0.0
    return detect(scores, np.arange(len(images)) < len(course.held_out_pos)).d_a


def measure(
    cell: tuple[str, str, int, Path | None],
) -> tuple[str, str, dict[str, float] | None]:
    """Measure a submission on a backbone: mean d_a by factor, or None if it is not applicable."""
    name, backbone, targets, data = cell
    torch.set_num_threads(1)
    submission = load_submission(name)
    varied = varied_hyperparameters(submission)
    settings = submission.hyperparameters_for(backbone)
    chooses = bool(settings.get("choose_rate"))
    means = {}
    for factor in (*FACTORS, AS_SHIPPED) if chooses else FACTORS:
        overrides: dict[str, object] = {}
        if factor != AS_SHIPPED:
            overrides = {name: float(settings[name]) * factor for name in varied}  # type: ignore[arg-type, operator]
            overrides |= {"choose_rate": False} if chooses else {}
        try:
            found = [
                d_a(submission, course, overrides) for course in courses(backbone, targets, data)
            ]
        except NotApplicable:
            return name, backbone, None
        key = factor if isinstance(factor, str) else f"{factor:.2g}"
        means[key] = round(statistics.mean(found), 3)
    return name, backbone, means


def losses(means: Mapping[str, float]) -> tuple[str, float, float]:
    """Return the best factor, the d_a of the submission as shipped, and what it loses to the best."""
    rates = {factor: value for factor, value in means.items() if factor != AS_SHIPPED}
    best = max(rates, key=lambda factor: rates[factor])
    shipped = means.get(AS_SHIPPED, means["1"])
    return best, shipped, max(0.0, rates[best] - shipped)


def all_losses(results: Results) -> dict[tuple[str, str], float]:
    """Return what each submission loses to its best factor on each backbone that it applies to."""
    return {
        (submission, backbone): losses(means)[2]
        for submission, cells in results.items()
        for backbone, means in cells.items()
        if means is not None
    }


def table(results: Results) -> str:
    """Return the table in Markdown, below a sentence about it."""

    def text(cells: Mapping[str, Mapping[str, float] | None], backbone: str) -> str:
        if backbone not in cells:
            return ""
        means = cells[backbone]
        if means is None:
            return "–"
        best, shipped, loss = losses(means)
        return f"{shipped:.2f}" if loss < 0.005 else f"{shipped:.2f} (×{best}: +{loss:.2f})"

    heads = ["submission", *(name.split("/")[1] for name in BACKBONES)]
    rows = [
        (f"`{submission}`", *(text(cells, backbone) for backbone in BACKBONES))
        for submission, cells in sorted(results.items())
    ]
    lost = all_losses(results)
    small = sum(loss <= 0.1 for loss in lost.values())
    return (
        f"In {small} of {len(lost)} cells, no other rate is better by more than 0.1.\n\n"
        + tabulate(rows, heads, tablefmt="github", disable_numparse=True)
    )


def read_results() -> Results:
    """Return what has been measured so far."""
    results: Results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    return results


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description="d_a at five learning rates, on each backbone")
    parser.add_argument("--data", type=Path, help="the folder with MNIST, CIFAR-10, Tiny ImageNet")
    parser.add_argument("--backbone", action="append", choices=BACKBONES, help="default: all")
    parser.add_argument("--method", action="append", help="default: all with a rate or penalty")
    parser.add_argument("--targets", type=int, default=10, help="how many targets")
    parser.add_argument("--jobs", type=int, default=1, help="processes, with one thread each")
    parser.add_argument("--write", action="store_true", help="write the table in docs/methods.md")
    options = parser.parse_args()
    names = [path.parent.name for path in sorted(submissions_folder().glob(f"*/{MANIFEST}"))]
    names = options.method or [
        name for name in names if varied_hyperparameters(load_submission(name))
    ]
    cells = [
        (name, backbone, options.targets, options.data)
        for backbone in options.backbone or BACKBONES
        for name in names
    ]
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for name, backbone, means in pool.imap_unordered(measure, cells):
            results = read_results()
            results.setdefault(name, {})[backbone] = means
            RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", "utf-8")
            print(name, backbone, means, flush=True)
    if options.write:
        write_block(PAGE, BLOCK, table(read_results()))


if __name__ == "__main__":
    main()
