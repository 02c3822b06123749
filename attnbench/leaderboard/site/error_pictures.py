"""Sheets of test pictures that methods got wrong. Pictures of data sets are never drawn."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np

from attnbench.errors import AttnbenchError
from attnbench.leaderboard.pooling import Setting
from attnbench.leaderboard.site.galleries import is_redistributable
from attnbench.leaderboard.site.rendering import file_name
from attnbench.tasks import TaskDefinition

_SIDE, _GAP, _PER_ROW = 96, 8, 6  # pixels, pixels, pictures


@dataclass(frozen=True)
class Sheet:
    """A sheet that is being drawn.

    Attributes:
        name: its file name.
        content: WebP, or None if a picture is not there.
    """

    name: str
    content: Future[bytes | None]

    @property
    def is_drawn(self) -> bool:
        """Whether it could be drawn. Waits until this is known."""
        return self.content.result() is not None


class SheetDrawer:
    """Has sheets drawn by a pool of processes, where the pictures may be shown.

    Args:
        pool: the processes.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._sheets: list[Sheet] = []

    def draw(
        self,
        task: TaskDefinition | None,
        setting: Setting,
        track: str,
        key: str,
        names: Sequence[str],
    ) -> Sheet | None:
        """Start to draw test pictures of a setting.

        The task has to be of the recorded version: in another one, a name may be another picture's.

        Args:
            task: the task, or None if it is not installed.
            setting, track: of the records.
            key: tells the sheets of a setting apart.
            names: of test images.

        Returns:
            None if there are no names, or the pictures cannot be drawn here or come from a data set.
        """
        if (
            task is None
            or not names
            or track != "mini"
            or task.content_hash(track) != setting.task_sha256
            or not is_redistributable(task)
        ):
            return None
        name = file_name(f"{task.name}-{key}", *names) + ".webp"
        sheet = Sheet(name, self._pool.submit(picture_sheet, task, tuple(names)))
        self._sheets.append(sheet)
        return sheet

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and content of every sheet, once each."""
        for name, content in {sheet.name: sheet.content for sheet in self._sheets}.items():
            if (drawn := content.result()) is not None:
                yield name, drawn


def picture_sheet(task: TaskDefinition, names: Sequence[str]) -> bytes | None:
    """Draw test pictures of a task's track `mini` in rows, as WebP with transparent gaps.

    Pictures are shown as they are in the data. Both pictures of a blend are shown side by side.

    Args:
        task: the task.
        names: of test images.

    Returns:
        None if a picture is not there.
    """
    from PIL import Image

    from attnbench.backbones.backbone import Preprocessing
    from attnbench.stimuli.episodes import TrackStimuli
    from attnbench.stimuli.preprocessing import resize_and_crop

    thumbnail = Preprocessing(
        size=_SIDE, resize=_SIDE, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="bilinear"
    )
    try:
        stimuli = TrackStimuli(task.tracks["mini"], thumbnail, None, None)
        found = [stimuli.test_pictures(name) for name in names]
    except AttnbenchError:
        return None
    tiles = [
        np.concatenate([resize_and_crop(picture, thumbnail) for picture in pictures], axis=2)
        for pictures in found
    ]
    width = max(tile.shape[2] for tile in tiles)
    per_row = max(1, _PER_ROW * _SIDE // width)
    rows = math.ceil(len(tiles) / per_row)
    columns = min(per_row, len(tiles))
    sheet = np.zeros((rows * (_SIDE + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 4), np.uint8)
    for number, tile in enumerate(tiles):
        top, left = (_SIDE + _GAP) * (number // per_row), (width + _GAP) * (number % per_row)
        place = sheet[top : top + _SIDE, left : left + tile.shape[2]]
        place[..., :3], place[..., 3] = tile.transpose(1, 2, 0), 255
    buffer = io.BytesIO()
    Image.fromarray(sheet, "RGBA").save(buffer, "webp", quality=80, method=4)
    return buffer.getvalue()
