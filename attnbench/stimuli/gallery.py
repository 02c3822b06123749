"""What a task's positives and negatives look like, as one picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from attnbench.backbones import load
from attnbench.backbones.backbone import Preprocessing
from attnbench.errors import AttnbenchError
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.stimuli.preparing import Images
from attnbench.tasks import TaskDefinition, TrackName

_TARGETS = 4
_EACH = 5
_HEADINGS = (
    "adapt on: target present",
    "adapt on: target absent",
    "test: target present",
    "test: target absent",
)


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
    figure = Figure(figsize=(len(_HEADINGS) * 3.4, len(targets) * 0.75 + 0.8))
    figure.set_layout_engine("constrained", w_pad=0.1)
    figure.suptitle(f"{task.title} ({task.name}, {track})")
    grid = figure.subplots(len(targets), len(_HEADINGS), squeeze=False)
    for axes, target in zip(grid, targets, strict=True):
        for axis, pictures in zip(axes, _groups(stimuli, target), strict=True):
            axis.imshow(_strip(visible(pictures, backbone.preprocessing)), interpolation="nearest")
            axis.set_axis_off()
        axes[0].text(
            -0.03,
            0.5,
            target.replace(" ", "\n"),
            transform=axes[0].transAxes,
            ha="right",
            va="center",
        )
    for axis, heading in zip(grid[0], _HEADINGS, strict=True):
        axis.set_title(heading, fontsize=10)
    try:
        figure.savefig(out, format="png", dpi=110)
    except OSError as error:
        raise AttnbenchError(f"cannot write {out} ({error.strerror})") from None


def _groups(stimuli: TrackStimuli, target: str) -> tuple[Images, ...]:
    """Some pictures of each heading, `[n, 3, H, W]` each."""
    episode = stimuli.episode(target, 0)
    present = np.flatnonzero(episode.present)[:_EACH]
    absent = np.flatnonzero(~episode.present)[:_EACH]
    return episode.pos[:_EACH], episode.neg[:_EACH], episode.make(present), episode.make(absent)


def _strip(pictures: Images) -> Images:
    """Pictures `[n, 3, H, W]` side by side on white, `[H, W', 3]`."""
    gap = max(1, pictures.shape[-1] // 16)
    framed = np.pad(pictures, ((0, 0), (0, 0), (0, 0), (0, gap)), constant_values=1.0)
    strip: Images = np.concatenate(list(framed), axis=2)[:, :, :-gap].transpose(1, 2, 0)
    return strip


def visible(images: Images, preprocessing: Preprocessing) -> Images:
    """Normalised images back to pixels, clipped to [0, 1] as a screen does."""
    mean, std = (
        np.array(values, np.float32)[:, None, None]
        for values in (preprocessing.mean, preprocessing.std)
    )
    return (images * std + mean).clip(0, 1)
