"""What the stimuli look like: pictures that attnbench draws or ships, never those of a data set.

To draw takes seconds and needs torch, so the package carries what is drawn of the shipped tasks.
Where a task has changed since, it is drawn anew; `python -m attnbench.leaderboard.site.pictures`
renews those in the package.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from pathlib import Path

from attnbench.tasks import TaskDefinition, list_tasks, load_task

FOLDER = Path(__file__).parent / "pictures"


def gallery(task: TaskDefinition | None, track: str) -> tuple[str, bytes] | None:
    """The file name and content of a task's gallery; None where its pictures are a data set's."""
    if task is None or track != "mini" or not is_made_up(task):
        return None
    name = file_of(task)
    shipped = FOLDER / name
    return name, shipped.read_bytes() if shipped.is_file() else draw(task)


def is_made_up(task: TaskDefinition) -> bool:
    """Whether attnbench itself has all pictures of the task's track `mini`."""
    track = task.tracks.get("mini")
    return track is not None and all(
        sample.source.kind != "hub" for sample in (track.adapt, track.test)
    )


def file_of(task: TaskDefinition) -> str:
    """The file of a gallery, another one where what it shows is another."""
    track = task.tracks["mini"].model_dump(mode="json")
    shown = json.dumps([task.name, task.title, track], sort_keys=True)
    return f"{task.name}-{hashlib.sha256(shown.encode()).hexdigest()[:8]}.webp"


def draw(task: TaskDefinition) -> bytes:
    """The gallery of a task's track `mini`, as WebP."""
    from PIL import Image

    from attnbench.stimuli.gallery import draw_gallery

    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder, "gallery.png")
        draw_gallery(task, "mini", drawn, None)
        buffer = io.BytesIO()
        Image.open(drawn).convert("RGB").save(buffer, "webp", quality=75, method=6)
        return buffer.getvalue()


def main() -> None:
    """Draw the galleries that the package carries, and remove those of earlier tasks."""
    FOLDER.mkdir(exist_ok=True)
    tasks = [task for task in map(load_task, list_tasks()) if is_made_up(task)]
    for file in FOLDER.glob("*.webp"):
        if file.name not in map(file_of, tasks):
            file.unlink()
    for task in tasks:
        (FOLDER / file_of(task)).write_bytes(draw(task))


if __name__ == "__main__":
    main()
