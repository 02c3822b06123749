"""Galleries of a task: what its positives and negatives look like, and each target, as PNGs."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from attnbench.backbones import load
from attnbench.backbones.backbone import Preprocessing
from attnbench.errors import AttnbenchError
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.stimuli.preprocessing import Images, in_unit_range, resize_and_crop
from attnbench.tasks import TaskDefinition
from attnbench.text import printable

_MAX_TARGETS = 4
_IMAGES_PER_CELL = 5
_MAX_NAME, _LINE_LENGTH = 48, 12
_TARGETS_PER_ROW = 6
_HEADINGS = (
    "adaptation: target present",
    "adaptation: target absent",
    "test: target present",
    "test: target absent",
)


def draw_gallery(
    task: TaskDefinition, track: str, out: Path, data: Path | None, backbone: str | None = None
) -> None:
    """Draw a grid of images: a row for some of the targets, a column for positives and negatives.

    Images are shown as a backbone gets them, including noise.

    Args:
        task: the task.
        track: the track whose images are drawn.
        out: the PNG to write.
        data: the data folder, or None to load from the hub.
        backbone: the backbone. By default the track's first.

    Raises:
        AttnbenchError: if the task has no such track, data is missing or damaged, or `out` cannot be
            written.
    """
    if track not in task.tracks:
        raise AttnbenchError(
            f"{task.name} has no track {track!r}; its tracks are {', '.join(task.tracks)}"
        )
    definition = task.tracks[track]
    # Only preprocessing and labels are needed, so the weights need not be there.
    network = load(backbone or definition.backbones[0], untrained=True)
    stimuli = TrackStimuli(definition, network.preprocessing, network.labels, data)
    # Evenly spaced, as neighbouring classes tend to be alike.
    step = max(1, len(stimuli.targets) // _MAX_TARGETS)
    targets = stimuli.targets[::step][:_MAX_TARGETS]
    figure = Figure(figsize=(len(_HEADINGS) * 3.4, len(targets) * 0.75 + 0.8))
    figure.set_layout_engine("constrained", w_pad=0.1)
    name = f"{task.name}, {track}" if task.title != task.name else track
    figure.suptitle(f"{task.title} ({name})")
    grid = figure.subplots(len(targets), len(_HEADINGS), squeeze=False)
    for axes, target in zip(grid, targets, strict=True):
        for axis, images in zip(axes, _sample_images(stimuli, target), strict=True):
            strip = _strip(denormalise(images, network.preprocessing))
            axis.imshow(strip, interpolation="nearest")
            axis.set_axis_off()
        axes[0].text(
            -0.03,
            0.5,
            "\n".join(textwrap.wrap(printable(target, _MAX_NAME), _LINE_LENGTH)),
            transform=axes[0].transAxes,
            ha="right",
            va="center",
        )
    for axis, heading in zip(grid[0], _HEADINGS, strict=True):
        axis.set_title(heading, fontsize=10)
    save_png(figure, out)


def draw_targets(task: TaskDefinition, track: str, out: Path, data: Path | None) -> None:
    """Draw a positive test image of every target.

    Where the task adds noise or blends, the pictures as they are in the data are beside it.

    Args:
        task, track, out, data: as for `draw_gallery`.

    Raises:
        AttnbenchError: as `draw_gallery`.
    """
    definition = task.tracks[track]
    network = load(definition.backbones[0], untrained=True)
    stimuli = TrackStimuli(definition, network.preprocessing, network.labels, data)
    rows = -(-len(stimuli.targets) // _TARGETS_PER_ROW)
    changed = definition.test.generator is not None
    figure = Figure(figsize=(_TARGETS_PER_ROW * (2.6 if changed else 1.6), rows * 1.25 + 0.3))
    figure.set_layout_engine("constrained")
    grid = figure.subplots(rows, _TARGETS_PER_ROW, squeeze=False)
    for axis in grid.flat:
        axis.set_axis_off()
    for axis, target in zip(grid.flat, stimuli.targets, strict=False):
        episode = stimuli.episode(target, 0)
        first = np.flatnonzero(episode.present)[:1]
        images = denormalise(episode.make(first), network.preprocessing)
        if changed:
            pictures = stimuli.test_pictures(episode.image_ids[first[0]])
            clean = [resize_and_crop(picture, network.preprocessing) for picture in pictures]
            images = np.concatenate([images, in_unit_range(np.stack(clean))])
        axis.imshow(_strip(images), interpolation="nearest")
        axis.set_title(printable(target, _MAX_NAME), fontsize=8)
    save_png(figure, out)


def save_png(figure: Figure, out: Path) -> None:
    """Write a figure as a PNG.

    Raises:
        AttnbenchError: if `out` cannot be written.
    """
    try:
        figure.savefig(out, format="png", dpi=110)
    except OSError as error:
        raise AttnbenchError(
            f"cannot write {out} ({error.strerror}); choose another file"
        ) from None


def _sample_images(stimuli: TrackStimuli, target: str) -> tuple[Images, ...]:
    """Return a few images for each heading, float32 `[n, 3, H, W]` each."""
    episode = stimuli.episode(target, 0)
    present = np.flatnonzero(episode.present)[:_IMAGES_PER_CELL]
    absent = np.flatnonzero(~episode.present)[:_IMAGES_PER_CELL]
    return (
        episode.pos[:_IMAGES_PER_CELL],
        episode.neg[:_IMAGES_PER_CELL],
        episode.make(present),
        episode.make(absent),
    )


def _strip(images: Images) -> Images:
    """Place images `[n, 3, H, W]` side by side, separated by white gaps: `[H, W', 3]`."""
    gap = max(1, images.shape[-1] // 16)
    padded = np.pad(images, ((0, 0), (0, 0), (0, 0), (0, gap)), constant_values=1.0)
    strip: Images = np.concatenate(list(padded), axis=2)[:, :, :-gap].transpose(1, 2, 0)
    return strip


def denormalise(images: Images, preprocessing: Preprocessing) -> Images:
    """Undo the normalisation of images and clip them to [0, 1] for display.

    Args:
        images: float32 `[..., 3, H, W]`, normalised.
        preprocessing: the backbone's.

    Returns:
        float32 of the same shape, in [0, 1]. Noise beyond that range is cut off, as on a screen.
    """
    mean, std = (
        np.array(values, np.float32)[:, None, None]
        for values in (preprocessing.mean, preprocessing.std)
    )
    return (images * std + mean).clip(0, 1)
