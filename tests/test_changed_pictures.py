"""Pictures of one's own that change after a record was made: the record is made again."""

from __future__ import annotations

from pathlib import Path

import pytest
from picture_files import SMALL, folder_track, write_classes, write_picture

import attnbench
from attnbench.commands.new_task import new_task
from attnbench.commands.show_errors import show_errors
from attnbench.errors import AttnbenchError
from attnbench.records.store import RecordStore
from attnbench.runs.events import Event, Noted
from attnbench.stimuli.episodes import TrackStimuli

pytestmark = pytest.mark.usefixtures("cache", "quick_fork_servers")

DIVISION = {"adapt": 0.5, "test": 0.5, "seed": 0}


def test_the_fingerprint_is_that_of_the_episode(tmp_path: Path) -> None:
    photos = write_classes(tmp_path / "photos", {"cat": 8, "dog": 8, "cow": 8})
    plain = folder_track(photos, DIVISION)
    blends = folder_track(photos, DIVISION)
    blend = {"kind": "blend", "alpha": 0.5}
    sample = blends.test.model_dump() | {"generator": blend}
    blends = type(blends).model_validate(blends.model_dump() | {"test": sample})
    for track in (plain, blends):
        stimuli = TrackStimuli(track, SMALL, None, None)
        assert stimuli.is_own
        for seed in (0, 1):
            assert stimuli.fingerprint("cat", seed) == stimuli.episode("cat", seed).fingerprint


def test_a_record_of_other_pictures_is_not_reused(tmp_path: Path) -> None:
    photos = write_classes(tmp_path / "photos", {"cat": 8, "dog": 8})
    new_task("pets", photos, targets=["cat"], parent=tmp_path)
    notes: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, Noted):
            notes.append(event.text)

    def evaluate() -> bytes:
        notes.clear()
        attnbench.evaluate(
            ["prototype"],
            tasks=[tmp_path / "pets.toml"],
            records=tmp_path / "records",
            on_event=note,
        )
        ((path, _),) = RecordStore(tmp_path / "records").load_all()[0]
        return path.read_bytes()

    first = evaluate()
    assert evaluate() == first and notes == []
    (path,) = (tmp_path / "records").rglob("*.json")
    task, errors = tmp_path / "pets.toml", tmp_path / "errors.png"
    assert show_errors(path, errors, task=task)
    for number in range(8):
        write_picture(photos / "cat" / f"{number:03d}.png", seed=1_000 + number)
    with pytest.raises(AttnbenchError, match=r"have changed since .* \(targets: cat\)"):
        show_errors(path, errors, task=task)
    changed = evaluate()
    assert changed != first
    (told,) = notes
    assert "as the pictures have changed since" in told and "prototype@" in told
    assert evaluate() == changed and notes == []
