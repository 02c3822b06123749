"""No picture on both sides: overlap is refused, duplicates are counted, and data is checked first."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import (
    SMALL,
    encoded_picture,
    folder_stimuli,
    folder_track,
    write_classes,
    write_picture,
)
from PIL import Image

from attnbench.errors import AttnbenchError
from attnbench.stimuli.episodes import TrackStimuli
from attnbench.stimuli.preprocessing import resize_and_crop
from attnbench.tasks import Track, list_tasks, load_task

PETS = {"bird": 10, "cat": 10, "dog": 10}
HALVES = {"adapt": 0.5, "test": 0.5}


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "pets", PETS)


@pytest.fixture
def split_pets(tmp_path: Path) -> Path:
    """The sub-folders train and test, with different pictures."""
    write_classes(tmp_path / "pets" / "train", PETS)
    write_classes(tmp_path / "pets" / "test", PETS, first_seed=500)
    return tmp_path / "pets"


def _use_all(folder: Path, **changes: Any) -> TrackStimuli:
    counts = {"positives": "all", "negatives": "all"}
    return folder_stimuli(folder, "train", test_split="test", **(counts | changes))


def _refused(stimuli: TrackStimuli, match: str) -> None:
    """Both the check before a run and the episode itself refuse the overlap."""
    with pytest.raises(AttnbenchError, match=match):
        stimuli.check([0])
    with pytest.raises(AttnbenchError, match=match):
        stimuli.episode("cat", 0)


def test_an_episode_that_tests_on_adaptation_pictures_is_refused(pets: Path) -> None:
    stimuli = folder_stimuli(pets, positives="all", negatives="all")
    _refused(stimuli, r"adapt on 30 of the 30 pictures that it tests on: .*\.png.*split = \{ adapt")


def test_a_divided_folder_is_not_refused(pets: Path) -> None:
    stimuli = folder_stimuli(pets, HALVES, positives=5, negatives=10)
    stimuli.check(range(3))
    assert len(set(stimuli.episode("cat", 1).image_ids)) == 15


def test_a_copy_under_another_name_is_refused_naming_both_files(split_pets: Path) -> None:
    shutil.copy(split_pets / "train" / "dog" / "003.png", split_pets / "test" / "bird" / "new.png")
    stimuli = _use_all(split_pets)
    _refused(stimuli, r"adapt on 1 of .*train/dog/003\.png and .*test/bird/new\.png are the same")
    (note,) = stimuli.notes
    assert note.startswith("1 of 61 pictures of pets are copies of others (")
    _refused(stimuli, re.escape(note))


def test_a_copy_in_another_format_is_refused(split_pets: Path) -> None:
    with Image.open(split_pets / "train" / "cat" / "003.png") as picture:
        picture.save(split_pets / "test" / "cat" / "new.bmp")
    _refused(_use_all(split_pets), r"train/cat/003\.png and .*test/cat/new\.bmp")


def _with_generator(folder: Path, negatives: int | str, generator: Any) -> TrackStimuli:
    table = folder_track(folder, "train", "test", positives="all", negatives="all").model_dump()
    table["test"] |= {"negatives": negatives, "generator": generator}
    return TrackStimuli(Track.model_validate(table), SMALL, None, None)


def test_a_blending_partner_that_is_adapted_on_is_refused(split_pets: Path) -> None:
    """All test pictures of birds have copies among the adaptation pictures."""
    for number in range(10):
        name = f"bird/{number:03d}.png"
        shutil.copy(split_pets / "test" / name, split_pets / "train" / name)
    plain = _with_generator(split_pets, 1, None)
    blended = _with_generator(split_pets, 1, {"kind": "blend", "alpha": 0.5})
    accepted = []
    for seed in range(8):
        # Accepted if the only negative is a dog, so that birds are no more than partners.
        with contextlib.suppress(AttnbenchError):
            accepted += [plain.episode("cat", seed)]
        with pytest.raises(AttnbenchError, match=r"train/bird/.*test/bird/.* are the same picture"):
            blended.episode("cat", seed)
    assert accepted


def test_noise_does_not_hide_a_copy(split_pets: Path) -> None:
    shutil.copy(split_pets / "train" / "cat" / "003.png", split_pets / "test" / "cat" / "new.png")
    noisy = _with_generator(split_pets, "all", {"kind": "noise", "sigma": 0.5})
    _refused(noisy, r"test/cat/new\.png")


def test_a_filtered_set_is_checked_too(tmp_path: Path) -> None:
    """Test pictures that a filter network gets wrong, adapted on from the unfiltered set."""
    table = load_task("imagenet-a").tracks["mini"].model_dump()
    table["adapt"]["source"] = table["test"]["source"]
    table["adapt"]["positives"] = "all"
    stimuli = TrackStimuli(Track.model_validate(table), SMALL, None, None)
    with pytest.raises(AttnbenchError, match=r"adapt on \d+ of .*figures-filter/"):
        stimuli.episode(stimuli.targets[0], 0)


def test_every_episode_of_every_shipped_mini_task_is_free_of_overlap() -> None:
    for task in map(load_task, list_tasks()):
        if "mini" not in task.tracks:  # its pictures are not embedded
            continue
        track = task.tracks["mini"]
        stimuli = TrackStimuli(track, SMALL, None, None)
        stimuli.check(range(2))
        stimuli.episode(stimuli.targets[0], 0)
        assert stimuli.notes == []


def test_duplicates_within_a_source_are_counted_and_named(pets: Path) -> None:
    assert folder_stimuli(pets).notes == []
    for copy in ("cat/copy.png", "dog/copy.png"):
        shutil.copy(pets / "cat" / "000.png", pets / copy)
    shutil.copy(pets / "bird" / "001.png", pets / "bird" / "again.png")
    (note,) = folder_stimuli(pets).notes
    assert note.startswith("3 of 33 pictures of pets are copies of others (")
    assert "bird/001.png = " in note and "cat/000.png = " in note and "dog/copy.png" in note


def test_too_few_pictures_are_an_error_before_the_first_episode(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "pets", {"bird": 3, "cat": 10, "dog": 0})
    stimuli = folder_stimuli(folder, HALVES, targets="all", positives=4, negatives=6)
    with pytest.raises(AttnbenchError) as error:
        stimuli.check([0])
    message = str(error.value)
    assert (
        "pets has 2 pictures of bird to adapt on, but the task needs 4 (adapt.positives)" in message
    )
    assert "pets has 0 pictures of dog to adapt on" in message and "of cat" not in message


def test_a_single_class_has_no_negatives(tmp_path: Path) -> None:
    stimuli = folder_stimuli(write_classes(tmp_path / "pets", {"cat": 10}), HALVES)
    with pytest.raises(AttnbenchError, match="pets has 0 pictures of no cat to adapt on"):
        stimuli.check([0])


def test_a_target_that_is_not_there_is_an_error_with_similar_classes(pets: Path) -> None:
    with pytest.raises(
        AttnbenchError, match=r"'cats' is not a class of pets; similar classes are cat"
    ):
        folder_stimuli(pets, HALVES, targets=["cats"])


def _damage(folder: Path) -> None:
    (folder / "cat" / "000.png").write_bytes(encoded_picture(1)[:200])
    (folder / "dog" / "001.png").write_bytes(b"")
    (folder / "dog" / "002.png").chmod(0o000)


def test_damaged_pictures_are_an_error_that_names_the_file(pets: Path) -> None:
    _damage(pets)
    (pets / "dog" / "001.png").unlink()
    stimuli = folder_stimuli(pets, HALVES, positives="all", negatives="all")
    with pytest.raises(AttnbenchError, match=r"cat/000\.png: it is damaged.*skip_damaged = true"):
        stimuli.check([0])


def test_damaged_pictures_are_skipped_and_counted_if_the_task_says_so(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _damage(pets)
    (pets / "dog" / "002.png").chmod(0o644)
    changes: dict[str, Any] = {"skip_damaged": True, "positives": "all", "negatives": "all"}
    stimuli = folder_stimuli(pets, HALVES, **changes)
    stimuli.check([0])
    episode = stimuli.episode("cat", 0)
    assert len(episode.pos) + len(episode.neg) + len(episode.present) == 28
    notes = " ".join(stimuli.notes)
    assert "cat/000.png" in notes and "dog/001.png" in notes and "cannot be read" in notes
    # Which pictures are damaged is stored, until a file changes.
    with monkeypatch.context() as patch:
        patch.setattr("attnbench.stimuli.decoding.decode", None)
        assert folder_stimuli(pets, HALVES, **changes).notes == stimuli.notes
    (pets / "dog" / "001.png").write_bytes(encoded_picture(999))
    assert "dog/001.png" not in " ".join(folder_stimuli(pets, HALVES, **changes).notes)


def test_the_pictures_of_an_image_are_found_by_its_name(split_pets: Path) -> None:
    write_picture(split_pets / "test" / "cat" / "a + b (sigma 1).png", 77)
    stimuli = _use_all(split_pets)
    names = stimuli.episode("cat", 0).image_ids
    assert "test/cat/a + b (sigma 1).png" in names
    for name in names:
        (picture,) = stimuli.test_pictures(name)
        expected = np.asarray(Image.open(split_pets / name).convert("RGB")).transpose(2, 0, 1)
        assert np.array_equal(picture, expected)
    with pytest.raises(AttnbenchError, match="no picture 'gone"):
        stimuli.test_pictures("gone.png")


@pytest.mark.parametrize("task", ["alpha-blend", "noisy-mnist"])
def test_the_pictures_of_blended_and_noisy_images_are_found(task: str) -> None:
    table = load_task(task).tracks["mini"].model_dump()
    if task == "noisy-mnist":
        table["test"]["generator"] = {"kind": "noise", "sigma": [0.0, 0.5]}
    stimuli = TrackStimuli(Track.model_validate(table), SMALL, None, None)
    episode = stimuli.episode(stimuli.targets[0], 0)
    (image,) = episode.make(np.array([0]))
    pictures = stimuli.test_pictures(episode.image_ids[0])
    assert len(pictures) == (2 if task == "alpha-blend" else 1)
    if len(pictures) == 2:
        pair = np.stack([resize_and_crop(picture, SMALL) for picture in pictures])
        assert np.allclose(image * 0.5 + 0.5, pair.mean(axis=0) / 255, atol=1e-5)


def test_tasks_in_two_folders_do_not_share_a_cache(tmp_path: Path) -> None:
    first = write_classes(tmp_path / "one" / "pets", PETS)
    second = write_classes(tmp_path / "two" / "pets", PETS, first_seed=700)
    for folder in (first, second, first):
        folder_stimuli(folder, HALVES, positives=5, negatives=10).check([0])
    assert len(list((tmp_path / "cache").glob("pets-*.pictures"))) == 2
