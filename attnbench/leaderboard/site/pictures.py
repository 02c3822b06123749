"""What the stimuli look like: pictures that attnbench draws or ships, never those of a data set."""

from __future__ import annotations

import tempfile
from pathlib import Path

from attnbench.leaderboard.site.contents import TaskPage


def gallery(task: TaskPage) -> tuple[str, bytes] | None:
    """The file name and PNG of a task's gallery; None where its pictures are not attnbench's own."""
    definition = task.definition
    if definition is None or task.track != "mini" or "mini" not in definition.tracks:
        return None
    track = definition.tracks["mini"]
    if any(sample.source.kind == "hub" for sample in (track.adapt, track.test)):
        return None
    # Here, for it needs torch: a leaderboard without such a task does without.
    from attnbench.stimuli.gallery import draw_gallery

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "gallery.png")
        draw_gallery(definition, "mini", out, None)
        return f"pictures/{definition.name}.png", out.read_bytes()
