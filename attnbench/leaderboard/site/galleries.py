"""Galleries of the tasks' stimuli, from pictures that attnbench draws or ships.

Pictures of data sets are never shown. Drawing takes seconds and needs torch, so the package contains
the galleries of the shipped tasks. A task that has changed since is drawn when the site is built.
`python -m attnbench.leaderboard.site.galleries` renews the galleries in the package.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from pathlib import Path
from typing import Literal, get_args

from attnbench.tasks import TaskDefinition, list_tasks, load_task

FOLDER = Path(__file__).parent / "drawn_galleries"


# Some images of each kind, or an image of every target.
Kind = Literal["examples", "targets"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def gallery(task: TaskDefinition | None, track: str, kind: Kind) -> tuple[str, bytes] | None:
    """Return the file name and content of a task's gallery.

    Returns:
        None if the task is unknown or the pictures of this track come from a data set.
    """
    if task is None or track != "mini" or not is_redistributable(task):
        return None
    name = gallery_file_name(task, kind)
    shipped = FOLDER / name
    return name, shipped.read_bytes() if shipped.is_file() else draw(task, kind)


def is_redistributable(task: TaskDefinition) -> bool:
    """Return whether attnbench draws or ships all pictures of the task's track `mini`."""
    track = task.tracks.get("mini")
    return track is not None and all(
        sample.source.kind not in ("hub", "folder") for sample in (track.adapt, track.test)
    )


def gallery_file_name(task: TaskDefinition, kind: Kind) -> str:
    """Return a gallery's file name, which changes whenever the task does."""
    track = task.tracks["mini"].model_dump(mode="json")
    content = json.dumps([task.name, task.title, track], sort_keys=True)
    return f"{task.name}-{kind}-{hashlib.sha256(content.encode()).hexdigest()[:8]}.webp"


def draw(task: TaskDefinition, kind: Kind) -> bytes:
    """Draw a gallery of a task's track `mini`, as WebP."""
    from PIL import Image

    from attnbench.stimuli.gallery import draw_gallery, draw_targets

    with tempfile.TemporaryDirectory() as folder:
        png = Path(folder, "gallery.png")
        if kind == "examples":
            draw_gallery(task, "mini", png, None)
        else:
            draw_targets(task, "mini", png, None)
        buffer = io.BytesIO()
        Image.open(png).convert("RGB").save(buffer, "webp", quality=75, method=6)
        return buffer.getvalue()


def main() -> None:
    """Draw the galleries of the package and remove those of earlier tasks."""
    FOLDER.mkdir(exist_ok=True)
    tasks = [task for task in map(load_task, list_tasks()) if is_redistributable(task)]
    names = {gallery_file_name(task, kind) for task in tasks for kind in KINDS}
    for file in FOLDER.glob("*.webp"):
        if file.name not in names:
            file.unlink()
    for task in tasks:
        for kind in KINDS:
            (FOLDER / gallery_file_name(task, kind)).write_bytes(draw(task, kind))


if __name__ == "__main__":
    main()
