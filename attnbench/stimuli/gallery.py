"""What a task's positives and negatives look like, as one picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from attnbench.backbones import load
from attnbench.backbones.backbone import Preprocessing
from attnbench.errors import AttnbenchError
from attnbench.stimuli.episodes import Images, TrackStimuli, rows_of
from attnbench.tasks import TaskDefinition, TrackName

_TARGETS = 4
_EACH = 5


def draw_gallery(task: TaskDefinition, track: TrackName, out: Path, data: Path | None) -> None:
    """Write a PNG: for some targets, positives and negatives to adapt on and to test on.

    The pictures are as the track's first backbone gets them, noise and all.

    Raises:
        AttnbenchError: where the data is not there or `out` cannot be written.
    """
    matplotlib.use("Agg")
    definition = task.tracks[track]
    backbone = load(definition.backbones[0], untrained=True)
    stimuli = TrackStimuli(definition, backbone.preprocessing, backbone.labels, data)
    targets = stimuli.targets[:: max(1, len(stimuli.targets) // _TARGETS)][:_TARGETS]
    figure = Figure(figsize=(4 * _EACH * 0.75, 1.05 * len(targets) + 1), layout="constrained")
    figure.suptitle(f"{task.title} ({task.name}, {track})")
    grid = figure.subplots(len(targets), 4 * _EACH, squeeze=False)
    for axes, target in zip(grid, targets, strict=True):
        episode = stimuli.episode(target, 0)
        present = np.flatnonzero(episode.present)[:_EACH]
        absent = np.flatnonzero(~episode.present)[:_EACH]
        (test,) = episode.test_images(rows_of([*present, *absent]))
        pictures = np.concatenate([episode.pos[:_EACH], episode.neg[:_EACH], test])
        for axis, picture in zip(axes, visible(pictures, backbone.preprocessing), strict=True):
            axis.imshow(picture.transpose(1, 2, 0), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        axes[0].set_ylabel(target.replace(" ", "\n"), rotation=0, ha="right", va="center")
    headings = ("adapt on: target present", "adapt on: absent", "test: present", "test: absent")
    for column, heading in enumerate(headings):
        grid[0][column * _EACH].set_title(heading, loc="left", fontsize=9)
    try:
        figure.savefig(out, format="png", dpi=110)
    except OSError as error:
        raise AttnbenchError(f"cannot write {out} ({error.strerror})") from None


def visible(images: Images, preprocessing: Preprocessing) -> Images:
    """Normalised images back to pixels, clipped to [0, 1] as a screen does."""
    mean, std = (
        np.array(values, np.float32)[:, None, None]
        for values in (preprocessing.mean, preprocessing.std)
    )
    return (images * std + mean).clip(0, 1)
