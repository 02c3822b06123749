"""Task definitions: the shipped files are valid, and errors in a file are explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbench.errors import AttnbenchError
from attnbench.resources import tasks_folder
from attnbench.runs.chosen_tasks import choose_tasks
from attnbench.tasks import FolderSource, HubSource, list_tasks, load_task, read_task

VALID = """
name = "made-up"
version = 1
title = "Made up"
reference = "none"
description = "for a test"

[tracks.mini]
backbones = ["shipped/digits-cnn"]
targets = "all"
timeout = 60

[tracks.mini.adapt]
source = { kind = "digits", split = "adapt" }
positives = 20
negatives = 20

[tracks.mini.test]
source = { kind = "digits", split = "test" }
positives = 50
negatives = 400
generator = { kind = "noise", sigma = 0.5 }
"""


DIGITS = '{ kind = "digits", split = "adapt" }'


def _write(folder: Path, text: str) -> Path:
    path = folder / "made-up.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", list_tasks())
def test_a_task_has_the_name_of_its_file_and_a_mini_track(name: str) -> None:
    task = load_task(name)
    assert task.name == name
    # Pictures that are not embedded are those of studies with people.
    assert "mini" in task.tracks or name in ("learning-dynamics", "people")


def test_a_run_of_all_tasks_leaves_out_those_without_the_track() -> None:
    chosen = choose_tasks(None, None, None)
    assert {each.track for each in chosen} == {"mini"}
    assert "learning-dynamics" not in [each.task.name for each in chosen]
    (named,) = choose_tasks(["learning-dynamics"], None, None)
    assert named.track == "study"


def test_a_run_may_have_several_tracks() -> None:
    chosen = choose_tasks(["people"], ["edge", "silhouette"], None)
    assert [each.track for each in chosen] == ["edge", "silhouette"]
    with pytest.raises(AttnbenchError, match=r"edges.*did you mean edge"):
        choose_tasks(["people"], ["edge", "edges"], None)


def test_the_kinds_of_pictures_shown_to_people_share_one_adaptation() -> None:
    tracks = load_task("people").tracks
    for prefix in ("", "full-"):
        of_kinds = [tracks[prefix + kind] for kind in ("edge", "silhouette", "cue-conflict")]
        tests = [track.test.source for track in of_kinds]
        assert len({source.folder for source in tests if isinstance(source, HubSource)}) == 3
        same = of_kinds[0].test
        assert len({repr(track.model_copy(update={"test": same})) for track in of_kinds}) == 1


# scikit-learn has some 180 pictures of each digit, of which 61 are left to test on.
FEW_POSITIVES = {("noisy-mnist", "mini"): 60}


@pytest.mark.parametrize("name", list_tasks())
def test_every_target_has_enough_test_images(name: str) -> None:
    for track_name, track in load_task(name).tracks.items():
        blends = getattr(track.test.generator, "partners", 1)
        positives, negatives = track.test.positives, track.test.negatives
        enough = FEW_POSITIVES.get((name, track_name), 200 if track_name == "mini" else 100)
        if (name, track_name) == ("imagenet-a", "mini"):
            enough = 100
        assert positives == "all" or positives * blends >= enough
        enough = {"mini": 200, "small": 250}.get(track_name, 2000)
        assert negatives == "all" or negatives * blends >= enough


def test_three_tasks_adapt_on_the_same_images() -> None:
    tasks = [load_task(name) for name in ("imagenet-standard", "alpha-blend", "imagenet-a")]
    for name, track in tasks[0].tracks.items():
        others = [task.tracks[name] for task in tasks if name in task.tracks]
        assert all(other.model_copy(update={"test": track.test}) == track for other in others)
        assert len({other.model_dump_json() for other in others}) == len(others)
    assert list(tasks[2].tracks) == ["mini", "small", "photographs", "full"]
    assert list(tasks[0].tracks) == list(tasks[1].tracks) == [*tasks[2].tracks, "language"]


@pytest.mark.parametrize(
    ("name", "track"),
    [("imagenet-standard", ""), ("alpha-blend", "")]
    + [("people", f"-{pictures}") for pictures in ("edge", "silhouette", "cue-conflict")],
)
def test_the_tracks_of_language_are_those_of_full_on_a_matched_pair(name: str, track: str) -> None:
    tracks = load_task(name).tracks
    full, language = tracks[f"full{track}"], tracks[f"language{track}"]
    assert language == full.model_copy(update={"backbones": language.backbones})
    on_classes, on_language = language.backbones
    assert on_classes in full.backbones and on_classes.endswith("/resnet50")
    assert on_language == "timm/resnet50_clip.openai"


def test_adaptation_files_are_no_tasks() -> None:
    assert (tasks_folder() / "adaptation" / "imagenet.toml").is_file()
    assert "imagenet" not in list_tasks()


def test_mini_and_small_have_the_targets_that_statistics_need() -> None:
    track = load_task("imagenet-standard").tracks
    assert len(track["mini"].targets) == 30
    sources = [sample.source for sample in (track["small"].adapt, track["small"].test)]
    for source in sources:
        assert isinstance(source, HubSource) and len(set(source.classes)) == 40
    assert track["small"].targets == "all"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("version = 1", "version = 1\nflavour = 2", ["flavour", "allowed here: name, version"]),
        ("timeout = 60", "timeout = 60\nlimit = 3", ["tracks.mini.limit", "timeout"]),
        (
            "sigma = 0.5",
            "sigma = 0.5, mean = 1",
            ["generator.mean", "allowed here: kind, sigma"],
        ),
        ("sigma = 0.5", "sigma = -1", ["sigma", "greater than or equal to 0"]),
        ("timeout = 60", "timeout = 0", ["tracks.mini.timeout", "greater than 0"]),
        ("[tracks.mini", "[tracks.Huge", ["tracks.Huge", "pattern", "[a-z0-9]"]),
        ('"digits", split = "test"', '"photos", split = "test"', ["source", "'digits'"]),
        ('split = "test"', 'split = "rest"', ["split", "'test'"]),
        ("positives = 50\n", "", ["tracks.mini.test.positives", "is missing"]),
        ("version = 1", 'version = "one"', ["version", "integer"]),
        ('name = "made-up"', 'name = "Made Up/.."', ["name", "pattern"]),
        ("timeout = 60", "timeout = 60\nlabels = { a = 0.5 }", ["tracks.mini.labels.a", "string"]),
        (DIGITS, '{ kind = "folder" }', ["adapt.source.path", "is missing"]),
        (
            DIGITS,
            '{ kind = "folder", path = "a", base = "/" }',
            ["base", "allowed here: kind, path"],
        ),
        (
            DIGITS,
            '{ kind = "folder", path = "a", spilt = "b" }',
            ["spilt", "split", "skip_damaged"],
        ),
        (DIGITS, '{ kind = "folder", path = "a", split = 3 }', ["source.split: ", "string"]),
        (
            DIGITS,
            '{ kind = "folder", path = "a", split = { adapt = 0.5, test = 0.6 } }',
            ["split", "must not exceed 1 together"],
        ),
        (
            DIGITS,
            '{ kind = "folder", path = "a", split = { adapt = 0.5, test = 0.5, sed = 1 } }',
            ["split.sed: ", "did you mean seed?", "allowed here: adapt, test, seed"],
        ),
        ("version = 1", "version = = 1", ["cannot read", "as TOML", "line 3"]),
    ],
)
def test_the_error_names_file_key_and_allowed_values(
    tmp_path: Path, old: str, new: str, expected: list[str]
) -> None:
    path = _write(tmp_path, VALID.replace(old, new))
    with pytest.raises(AttnbenchError) as error:
        read_task(path)
    for text in [str(path), *expected]:
        assert text in str(error.value)


def test_a_missing_or_binary_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    with pytest.raises(AttnbenchError, match=r"cannot read the task file .*x\.toml: No such file"):
        read_task(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AttnbenchError, match=r"x\.toml is not a text file"):
        read_task(path)


def test_the_error_for_an_unknown_task_lists_the_tasks() -> None:
    with pytest.raises(AttnbenchError, match=r"'nosy-mnist': did you mean noisy-mnist\? \(known: "):
        load_task("nosy-mnist")


def test_the_hash_depends_on_the_content_not_on_formatting(tmp_path: Path) -> None:
    original = read_task(_write(tmp_path, VALID)).content_hash("mini")
    reformatted = VALID.replace("timeout = 60", "# a comment\ntimeout = 60.0")
    assert read_task(_write(tmp_path, reformatted)).content_hash("mini") == original
    described = VALID.replace("for a test", "of another test")
    assert read_task(_write(tmp_path, described)).content_hash("mini") == original
    another_track = VALID + VALID[VALID.index("[tracks.mini]") :].replace("mini", "full")
    both = read_task(_write(tmp_path, another_track))
    assert both.content_hash("mini") == original != both.content_hash("full")
    changed = VALID.replace("sigma = 0.5", "sigma = 0.6")
    assert read_task(_write(tmp_path, changed)).content_hash("mini") != original


def test_new_keys_do_not_change_the_hashes_of_tasks() -> None:
    """Records hold these hashes. A task that is changed on purpose gets another version."""
    tasks = map(load_task, list_tasks())
    assert {(task.name, t): task.content_hash(t)[:16] for task in tasks for t in task.tracks} == {
        ("alpha-blend", "mini"): "c45f65d916ab979e",
        ("alpha-blend", "small"): "a69e2661b0143c85",
        ("alpha-blend", "photographs"): "a2a47eab89f384ef",
        ("alpha-blend", "full"): "dd2f19da05d88f83",
        ("alpha-blend", "language"): "b90de1b7a9de0fe0",
        ("architectures", "mini"): "a506d141b31c10b8",
        ("cifar-ssl", "mini"): "8caae508fac6ce4c",
        ("cifar-ssl", "small"): "6cd6f801d7522286",
        ("cifar-ssl", "full"): "cc5c4ea4ba8478f3",
        ("imagenet-a", "mini"): "8df9f1b6ad49ea50",
        ("imagenet-a", "small"): "29e67b74786b9853",
        ("imagenet-a", "photographs"): "6d6ac5c24da31628",
        ("imagenet-a", "full"): "e88e851d87702196",
        ("imagenet-standard", "mini"): "3ba659c2ed43fe20",
        ("imagenet-standard", "small"): "ddf3f5f71070e1ab",
        ("imagenet-standard", "photographs"): "8dc7a49f803e03f4",
        ("imagenet-standard", "full"): "c4128a4db57afe50",
        ("imagenet-standard", "language"): "78fa6de3114fea9e",
        ("learning-dynamics", "study"): "694e43bbe7f6ac44",
        ("noisy-mnist", "mini"): "3f3ecd60d4f86085",
        ("noisy-mnist", "small"): "5d097028b43bf3d9",
        ("noisy-mnist", "full"): "2a894ad21ba664a3",
        ("people", "edge"): "d3fd0a31297ee670",
        ("people", "silhouette"): "40e1c60a90e5529c",
        ("people", "cue-conflict"): "4c7dd88c15f91f92",
        ("people", "full-edge"): "846aa8a9f917c44c",
        ("people", "full-silhouette"): "a73c950f87c354d0",
        ("people", "full-cue-conflict"): "fd72215b04ceb162",
        ("people", "language-edge"): "000ff8a4bd08cb37",
        ("people", "language-silhouette"): "ee1e2b318c77a015",
        ("people", "language-cue-conflict"): "7bf1db32a3594236",
    }


FOLDER = '{ kind = "folder", path = "pictures/pets" }'


def test_a_track_may_have_any_name_and_labels(tmp_path: Path) -> None:
    text = VALID.replace("[tracks.mini", "[tracks.my-pets")
    plain = read_task(_write(tmp_path, text))
    assert list(plain.tracks) == ["my-pets"]
    text = text.replace("timeout = 60", 'timeout = 60\nlabels = { church = "n03028079", cat = 3 }')
    labelled = read_task(_write(tmp_path, text))
    assert labelled.tracks["my-pets"].labels == {"church": "n03028079", "cat": 3}
    assert labelled.content_hash("my-pets") != plain.content_hash("my-pets")


def test_a_folder_is_relative_to_the_task_file_and_its_place_is_not_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        path = _write(tmp_path / name, VALID.replace(DIGITS, FOLDER))
        monkeypatch.chdir(tmp_path / name)
        tasks.append(load_task("made-up.toml"))
        monkeypatch.chdir(tmp_path)
        assert load_task(path) == tasks[-1]
    sources = [task.tracks["mini"].adapt.source for task in tasks]
    assert all(isinstance(source, FolderSource) for source in sources)
    folders = [task.tracks["mini"].folders for task in tasks]
    assert folders == [(tmp_path / name / "pictures" / "pets",) for name in ("one", "two")]
    assert sources[0] != sources[1]
    assert tasks[0].content_hash("mini") == tasks[1].content_hash("mini")


def test_the_name_of_a_task_is_preferred_to_that_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noisy-mnist").write_text("not a task")
    (tmp_path / "own-task").write_text(VALID)
    assert load_task("noisy-mnist").name == "noisy-mnist"
    assert load_task("own-task").name == "made-up"
    with pytest.raises(AttnbenchError, match=r"cannot read the task file pets\.toml"):
        load_task("pets.toml")
