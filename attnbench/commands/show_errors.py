"""`attnbench records show --errors`: the pictures that detectors got wrong most surely, as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnbench.backbones import load
from attnbench.backbones.backbone import Preprocessing
from attnbench.commands.recorded_task import find_backbone, find_task, is_recorded_version
from attnbench.errors import AttnbenchError
from attnbench.records.record import Record
from attnbench.records.store import RecordStore
from attnbench.records.surest_errors import Errors, ScoredImage, surest_errors
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.stimuli.gallery import save_png
from attnbench.stimuli.preprocessing import resize_and_crop
from attnbench.task_schema import Track
from attnbench.text import printable

_MAX_TARGETS = 8
_PER_KIND = 4
_THUMBNAIL = Preprocessing(size=128, resize=128, mean=(0.0,) * 3, std=(1.0,) * 3)
# Characters that fit above one picture, and above the four of a kind.
_MAX_NAME, _MAX_HEADING = 26, 70
# Inches around each picture. Texts take no part in the layout: long ones would pull it apart.
_ROW_GAP, _COLUMN_GAP = 0.3, 0.05


def show_errors(
    record: Path,
    out: Path,
    *,
    task: str | Path | None = None,
    backbone: str | None = None,
    data: Path | None = None,
) -> bool:
    """Draw the surest misses and false alarms of a record: a row for each target.

    Pictures are shown as they are in the data, cropped to a square. Of more than 8 targets, those
    with the most errors shown are drawn.

    Args:
        record: the record's JSON file.
        out: the PNG to write.
        task: the task's name or file. By default the task of the recorded name.
        backbone: the backbone of a record of one's own backbone. Without it, nothing checks whether
            the pictures are still the same for such a record.
        data: the data folder, or None to load from the hub.

    Returns:
        Whether there were errors to draw.

    Raises:
        AttnbenchError: if the record, the task or a picture cannot be read, pictures of one's own
            have changed since, or `out` cannot be written.
    """
    recorded = RecordStore(record.parent).read(record)
    identity = recorded.identity
    errors = surest_errors(record, recorded, _PER_KIND)
    errors.sort(key=lambda target: -len(target.misses) - len(target.false_alarms))
    errors = [target for target in errors[:_MAX_TARGETS] if target.misses or target.false_alarms]
    if not errors:
        return False
    definition = find_task(identity, task)
    if not is_recorded_version(definition, identity):
        raise AttnbenchError(f"the task {definition.name} is not the recorded version")
    # Raw pictures are drawn, so neither the backbone nor its labels are needed.
    track = definition.tracks[identity.track]
    stimuli = TrackStimuli(track, _THUMBNAIL, None, data)
    if stimuli.is_own and (backbone is not None or not identity.backbone.startswith("own/")):
        _refuse_changed_pictures(recorded, track, find_backbone(identity, backbone))
    title = f"{identity.submission} on {identity.task} ({identity.track}), {identity.backbone}"
    _draw(errors, stimuli, title, out)
    return True


def _refuse_changed_pictures(record: Record, track: Track, backbone: str) -> None:
    """Raise AttnbenchError if pictures of one's own have changed since a record was made."""
    # Only preprocessing and labels are needed, so the weights need not be there.
    network = load(backbone, untrained=True)
    stimuli = TrackStimuli(track, network.preprocessing, network.labels, None)
    changed = [
        episode.target
        for episode in record.episodes
        if stimuli.fingerprint(episode.target, record.identity.seed) != episode.images_sha256
    ]
    if changed:
        raise AttnbenchError(
            f"pictures of {record.identity.task} have changed since the record was made (targets: "
            f"{', '.join(changed)}), so its scores may be of others; evaluate it again"[:2000]
        )


def _draw(errors: Sequence[Errors], stimuli: TrackStimuli, title: str, out: Path) -> None:
    figure = Figure(figsize=(2 * _PER_KIND * 1.5 + 1, len(errors) * 2 + 0.8))
    figure.set_layout_engine("constrained", h_pad=_ROW_GAP, w_pad=_COLUMN_GAP)
    figure.suptitle(title)
    grid = figure.subplots(len(errors), 2 * _PER_KIND, squeeze=False)
    for axes, target in zip(grid, errors, strict=True):
        for axis in axes:
            axis.set_axis_off()
        for kind, images, cells in (
            (f"{printable(target.target, _MAX_HEADING)}: misses", target.misses, axes[:_PER_KIND]),
            ("false alarms", target.false_alarms, axes[_PER_KIND:]),
        ):
            if not images:
                _write_above(cells[0], f"{kind}: none")
            for position, (axis, image) in enumerate(zip(cells, images, strict=False)):
                _draw_image(axis, image, stimuli, kind if position == 0 else "")
    save_png(figure, out)


def _draw_image(axis: Axes, image: ScoredImage, stimuli: TrackStimuli, heading: str) -> None:
    """Draw a picture, or both pictures of a blend side by side, below its score and name."""
    pictures = [
        resize_and_crop(picture, _THUMBNAIL) for picture in stimuli.test_pictures(image.name)
    ]
    axis.imshow(np.concatenate(pictures, axis=2).transpose(1, 2, 0), interpolation="nearest")
    name = printable(image.name)
    short = name if len(name) <= _MAX_NAME else "…" + name[1 - _MAX_NAME :]
    lines = [heading] * bool(heading) + [f"{image.score:+.2f}", short]
    _write_above(axis, "\n".join(lines))


def _write_above(axis: Axes, text: str) -> None:
    axis.text(
        0,
        1.04,
        text,
        fontsize=7,
        verticalalignment="bottom",
        transform=axis.transAxes,
        parse_math=False,
        in_layout=False,
    )
