"""Folders of pictures: layouts, splits, slices and divisions, odd names, and what is ignored."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from picture_files import encoded_picture, write_classes, write_picture

from attnbench.errors import AttnbenchError
from attnbench.stimuli.datasets import Dataset
from attnbench.stimuli.opening import open_dataset, open_folder
from attnbench.tasks import FolderSource, HubSource

PETS = {"cat": 6, "dog": 4}
DATA = Path(os.environ.get("ATTNBENCH_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNBENCH_CACHE", str(tmp_path / "cache"))


def _own(path: Path, split: Any = None, part: str = "adapt", **changes: Any) -> Dataset:
    table = {"kind": "folder", "path": str(path), "split": split}
    return open_folder(FolderSource.model_validate(table | changes), part)


def _hub(data: Path, split: str, **changes: Any) -> Dataset:
    table = {"kind": "hub", "hub": "nobody/pets", "folder": "pets", "split": split}
    return open_dataset(HubSource.model_validate(table | changes), data)


def _names(source: Dataset) -> list[str]:
    return [source.image_name(row) for row in range(len(source.labels))]


def _counts(source: Dataset) -> dict[str, int]:
    counts = np.bincount(source.labels, minlength=len(source.classes)).tolist()
    return dict(zip(source.classes, counts, strict=True))


def _write_parquet(file: Path, labels: list[Any], label_type: Any = None, first: int = 0) -> None:
    """Write a Parquet file of one picture per label, with labels of ClassLabel cat and dog."""
    label_type = label_type or datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features({"image": datasets.Image(), "label": label_type})
    pictures = [
        {"bytes": encoded_picture(first + row), "path": None} for row, _ in enumerate(labels)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": pictures, "label": labels}, schema=features.arrow_schema)
    pq.write_table(table, file)


def test_a_picture_is_named_by_its_file(tmp_path: Path) -> None:
    source = _own(write_classes(tmp_path / "pets", PETS))
    assert source.name == "pets" and source.classes == ("cat", "dog")
    assert _names(source)[5:8] == ["cat/005.png", "dog/000.png", "dog/001.png"]
    assert source.location(0) == str(tmp_path / "pets" / "cat" / "000.png")


@pytest.mark.parametrize("deeper", ["", "pets/", "archive/pets/"])
def test_pictures_may_lie_deeper_and_belong_to_the_outer_class(tmp_path: Path, deeper: str) -> None:
    write_picture(tmp_path / deeper / "cat" / "siamese" / "a.png", 1)
    write_picture(tmp_path / deeper / "cat" / "b.png", 2)
    write_picture(tmp_path / deeper / "dog" / "c.png", 3)
    source = _own(tmp_path)
    assert _counts(source) == {"cat": 2, "dog": 1}
    assert _names(source)[1] == f"{deeper}cat/siamese/a.png"


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".webp", ".tif", ".TIFF", ".bmp"])
def test_the_usual_formats_are_found(tmp_path: Path, suffix: str) -> None:
    write_picture(tmp_path / "cat" / f"a{suffix}", 1)
    write_picture(tmp_path / "dog" / "b.png", 1)
    assert _counts(_own(tmp_path)) == {"cat": 1, "dog": 1}


def test_hidden_files_and_clutter_are_ignored(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "pets", PETS)
    for clutter in (
        ".ipynb_checkpoints/000.png",
        "__MACOSX/cat/000.png",
        "cat/._000.png",
        "cat/Thumbs.db",
        "cat/.ipynb_checkpoints/000-checkpoint.png",
        "cat/notes.txt",
    ):
        write_picture(folder / clutter, 77)
    assert _counts(_own(folder)) == PETS and not _own(folder).notes
    (tmp_path / "data").mkdir()
    folder.rename(tmp_path / "data" / "pets")
    assert _counts(_hub(tmp_path / "data", "train")) == PETS


def test_pictures_that_are_left_out_are_counted(tmp_path: Path) -> None:
    write_classes(tmp_path, PETS)
    write_picture(tmp_path / "cat" / "new.heic", 1)
    write_picture(tmp_path / "loose.png", 2)
    notes = " ".join(_own(tmp_path).notes)
    assert "1 pictures" in notes and ".heic" in notes and "in no class's folder" in notes


@pytest.mark.parametrize(
    "name",
    ["with space", "Bär", "new\nline", "tab\t'quote\"", "ü" * 127, "a" * 255, "-dash", "[x]+y"],
)
def test_classes_and_files_may_have_any_name(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / name / f"{name[:120]}.png", 1)
    write_picture(tmp_path / "dog" / "b.png", 2)
    source = _own(tmp_path)
    row = source.labels.tolist().index(source.classes.index(name))
    assert source.image_name(row) == f"{name}/{name[:120]}.png"
    assert source.load([row])[0].shape == (3, 24, 20)


def test_accents_are_composed_and_invalid_unicode_is_escaped(tmp_path: Path) -> None:
    write_picture(tmp_path / unicodedata.normalize("NFD", "Bär") / "a.png", 1)
    write_picture(Path(os.fsdecode(os.fsencode(tmp_path) + b"/dog\xff")) / "b.png", 2)
    source = _own(tmp_path)
    assert source.classes == ("Bär", "dog\\xff")
    assert len(source.load([0, 1])) == 2
    assert all(name.encode() for name in _names(source))


@pytest.mark.parametrize("kind", ["file", "class", "csv"])
def test_a_symlink_out_of_the_folder_is_refused(tmp_path: Path, kind: str) -> None:
    folder = write_classes(tmp_path / "pets", PETS)
    outside = write_classes(tmp_path / "elsewhere", {"bird": 2})
    if kind == "class":
        (folder / "bird").symlink_to(outside / "bird")
    else:
        (folder / "cat" / "link.png").symlink_to(outside / "bird" / "000.png")
    if kind == "csv":
        (folder / "list.csv").write_text("file,label\ncat/link.png,cat\n")
    with pytest.raises(AttnbenchError, match=r"(bird|link\.png).*(leads out|outside)"):
        _own(folder)


def test_broken_links_and_links_to_folders_inside_are_refused(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "pets", PETS)
    (folder / "loop").symlink_to(folder)
    with pytest.raises(
        AttnbenchError, match=r"pets/loop is a symlink to a folder of the same data"
    ):
        _own(folder)
    (folder / "loop").unlink()
    (folder / "cat" / "gone.png").symlink_to(folder / "nothing.png")
    with pytest.raises(AttnbenchError, match=r"gone\.png leads nowhere"):
        _own(folder)


def test_the_folder_itself_may_be_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(write_classes(tmp_path / "pets", PETS))
    assert _counts(_own(tmp_path / "link")) == PETS


def _split_folders(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        write_classes(root / name, PETS, first_seed=100 * number)
    return root


@pytest.mark.parametrize("folder", ["val", "valid", "validation", "dev"])
@pytest.mark.parametrize("wanted", ["val", "valid", "validation", "dev"])
def test_the_validation_split_has_four_names(tmp_path: Path, folder: str, wanted: str) -> None:
    _split_folders(tmp_path / "pets", "train", folder)
    source = _hub(tmp_path, wanted)
    assert source.location(0) == str(tmp_path / "pets" / folder / "cat" / "000.png")
    assert len(source.labels) == 10


def test_splits_are_sub_folders_and_all_of_them_by_default(tmp_path: Path) -> None:
    folder = _split_folders(tmp_path, "train", "test", "extra")
    assert _names(_own(folder, "test"))[0] == "test/cat/000.png"
    assert _names(_own(folder, "extra"))[0] == "extra/cat/000.png"
    assert len(_own(folder).labels) == 30
    assert len(_own(folder, "train+test[:2]").labels) == 12


@pytest.mark.parametrize("layout", ["flat", "splits", "parquet"])
def test_an_unknown_split_is_an_error_that_lists_the_splits(tmp_path: Path, layout: str) -> None:
    if layout == "parquet":
        _write_parquet(tmp_path / "pets" / "train.parquet", [0, 1])
    else:
        _split_folders(tmp_path / "pets", "train" if layout == "splits" else "")
    for open_split in (lambda split: _own(tmp_path / "pets", split), lambda s: _hub(tmp_path, s)):
        assert len(open_split("train").labels)
        for split in ("tset", "test", "test[:3]", "validation"):
            with pytest.raises(AttnbenchError, match=r"no split '\w+'; its splits are train"):
                open_split(split)


def test_a_name_that_two_splits_may_have_is_an_error(tmp_path: Path) -> None:
    folder = _split_folders(tmp_path, "dev", "train", "val")
    assert _names(_own(folder, "dev"))[0] == "dev/cat/000.png"
    with pytest.raises(AttnbenchError, match="several splits that 'validation' can mean: dev, val"):
        _own(folder, "validation")


def test_a_class_beside_splits_is_left_out_with_a_note(tmp_path: Path) -> None:
    folder = write_classes(_split_folders(tmp_path / "pets", "train", "test"), {"bird": 2})
    (note,) = _own(folder, "test").notes
    assert note.endswith("divided into test, train, so its other folders are left out (bird)")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write_classes(tmp_path, {"bicycle": 3, "train": 2})
    assert _counts(_own(tmp_path)) == {"bicycle": 3, "train": 2}


@pytest.mark.parametrize(
    "split", ["train[:3]", "train[3:7]", "train[50%:]", "train[-2:]", "train[:33%]"]
)
def test_a_slice_means_the_same_for_folders_as_for_parquet(tmp_path: Path, split: str) -> None:
    write_classes(tmp_path / "folders" / "pets" / "train", PETS)
    _write_parquet(tmp_path / "parquet" / "pets" / "train.parquet", [0] * 6 + [1] * 4, first=1)
    folders, parquet = (_hub(tmp_path / kind, split) for kind in ("folders", "parquet"))
    expected = datasets.load_dataset(
        "parquet",
        data_files={"train": str(tmp_path / "parquet" / "pets" / "train.parquet")},
        split=split,
    )
    assert folders.labels.tolist() == parquet.labels.tolist() == list(expected["label"])
    rows = range(len(folders.labels))
    for one, other in zip(folders.load(rows), parquet.load(rows), strict=True):
        assert np.array_equal(one, other)
    assert _names(folders) == _names(parquet)


@pytest.mark.parametrize("split", ["train[5", "train[a:b]", "train[::2]", "train[20:]"])
def test_a_slice_that_is_malformed_or_empty_is_an_error(tmp_path: Path, split: str) -> None:
    write_classes(tmp_path, PETS)
    with pytest.raises(AttnbenchError, match=r"cannot take the slice|train\[20:\] selects none"):
        _own(tmp_path, split)


def test_classes_that_a_slice_leaves_out_are_noted(tmp_path: Path) -> None:
    (note,) = _own(write_classes(tmp_path, PETS), "train[6:]").notes
    assert "no pictures of 1 classes (cat)" in note and "sorted by class" in note


def _divided(folder: Path, seed: int = 0) -> list[set[str]]:
    table = {"adapt": 0.5, "test": 0.3, "seed": seed}
    return [set(_names(_own(folder, table, part))) for part in ("adapt", "test")]


def test_a_folder_is_divided_class_by_class(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "pets", {"cat": 20, "dog": 10})
    adapt, test = _divided(folder)
    assert not adapt & test
    assert [sum(name.startswith("cat") for name in part) for part in (adapt, test)] == [10, 6]
    assert [len(adapt), len(test)] == [15, 9]
    assert _divided(folder) == [adapt, test] != _divided(folder, seed=1)


def test_a_division_is_stable_when_another_class_grows(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "pets", {"cat": 20, "dog": 10})
    before = _divided(folder)
    write_classes(folder, {"bird": 7, "dog": 23}, first_seed=500)
    after = _divided(folder)
    for old, new in zip(before, after, strict=True):
        assert {name for name in old if "cat" in name} == {name for name in new if "cat" in name}
    (folder / "cat").rename(folder / "felis")
    assert {name.replace("felis", "cat") for name in _divided(folder)[0] if "felis" in name} == {
        name for name in before[0] if "cat" in name
    }


def test_a_folder_with_splits_is_not_divided(tmp_path: Path) -> None:
    folder = _split_folders(tmp_path, "train", "test")
    with pytest.raises(AttnbenchError, match="divided already, into test, train"):
        _divided(folder)


@pytest.mark.parametrize("layout", ["folders", "parquet"])
def test_two_configurations_are_not_mixed(tmp_path: Path, layout: str) -> None:
    for number, config in enumerate(("160px", "full_size")):
        for split in ("train", "validation"):
            folder = tmp_path / "pets" / config / split
            if layout == "parquet":
                _write_parquet(folder / "0000.parquet", [0, 1, 1], first=10 * number)
            else:
                write_classes(folder, {"cat": 1, "dog": 2}, first_seed=10 * number)
    source = _hub(tmp_path, "train", config="full_size")
    assert _counts(source) == {"cat": 1, "dog": 2}
    assert "full_size/train" in source.location(0)
    with pytest.raises(AttnbenchError, match=r"several configurations .*160px, full_size"):
        _hub(tmp_path, "train")
    with pytest.raises(
        AttnbenchError, match=r"no configuration 'large'; it holds 160px, full_size"
    ):
        _hub(tmp_path, "train", config="large")
    assert _counts(_own(tmp_path / "pets" / "160px", "valid")) == {"cat": 1, "dog": 2}


@pytest.mark.parametrize(
    "file",
    [
        "train.parquet",
        "data/train-00000-of-00001.parquet",
        "default/train/0000.parquet",
        "train/0000.parquet",
        "train-00000-of-00001-0f3c.parquet",
        "pets_train_v2.parquet",
    ],
)
def test_the_split_of_a_parquet_file_is_recognised(tmp_path: Path, file: str) -> None:
    _write_parquet(tmp_path / "pets" / file, [0, 1, 1])
    _write_parquet(tmp_path / "pets" / file.replace("train", "test"), [0], first=50)
    assert _counts(_hub(tmp_path, "train", config="full")) == {"cat": 1, "dog": 2}
    source = _own(tmp_path / "pets", "test")
    assert _counts(source) == {"cat": 1, "dog": 0}
    assert _names(source) == [f"{file.replace('train', 'test')}:0"]


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        ("class label", [0, -1, 1, -1, 1]),
        ("int64", [0, None, 1, -1, 1]),
        ("string", ["cat", None, "dog", "", "dog"]),
    ],
)
def test_pictures_without_a_label_are_left_out_and_counted(
    tmp_path: Path, kind: str, labels: list[Any]
) -> None:
    label_type = None if kind == "class label" else datasets.Value(kind)
    _write_parquet(tmp_path / "pets" / "train.parquet", labels, label_type)
    for source in (_own(tmp_path / "pets"), _hub(tmp_path, "train")):
        assert sorted(_counts(source).values()) == [1, 2]
        assert "2 of 5 pictures" in source.notes[0] and "no label" in source.notes[0]


def test_the_error_for_a_missing_column_lists_the_columns(tmp_path: Path) -> None:
    _write_parquet(tmp_path / "pets" / "train.parquet", [0, 1])
    with pytest.raises(AttnbenchError, match=r"no column 'img'; its columns are image, label"):
        _own(tmp_path / "pets", image="img")
    (tmp_path / "pets.csv").write_text("name;class\na.png;cat\n")
    with pytest.raises(AttnbenchError, match=r"no column 'file'; its columns are name;class"):
        _own(tmp_path / "pets.csv")


def test_a_parquet_file_may_be_named_and_may_come_from_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"image": [encoded_picture(seed) for seed in range(3)], "label": ["a/b", None, "cat"]}
    )
    frame.to_parquet(tmp_path / "pets.parquet")
    source = _own(tmp_path / "pets.parquet")
    assert _counts(source) == {"a/b": 1, "cat": 1}
    assert _names(source) == ["pets.parquet:0", "pets.parquet:2"]
    assert source.load([1])[0].shape == (3, 24, 20)
    (tmp_path / "pets.zip").write_bytes(b"")
    with pytest.raises(AttnbenchError, match="neither a folder nor a CSV or Parquet file"):
        _own(tmp_path / "pets.zip")


def test_a_row_without_a_picture_is_an_error_that_names_it(tmp_path: Path) -> None:
    """A path in place of a picture is not followed: it may lead anywhere."""
    outside = write_picture(tmp_path / "outside.png", 1)
    pictures = [{"bytes": None, "path": str(outside)}, {"bytes": None, "path": None}, None]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    table = pa.table({"image": pictures, "label": ["a", "b", "c"]}, schema=features.arrow_schema)
    pq.write_table(table, tmp_path / "pets.parquet")
    source = _own(tmp_path / "pets.parquet")
    reasons = ("has only the path", "has no picture", "has no picture")
    for row, reason in enumerate(reasons):
        with pytest.raises(AttnbenchError, match=rf"pets\.parquet, row {row}.*{reason}"):
            source.load([row])


def test_without_a_network_a_hub_data_set_fails_at_once_in_one_line(tmp_path: Path) -> None:
    code = (
        "import time\n"
        "from attnbench.errors import AttnbenchError\n"
        "from attnbench.stimuli.opening import open_dataset\n"
        "from attnbench.tasks import HubSource\n"
        "import datasets, huggingface_hub\n"
        "started = time.monotonic()\n"
        "try:\n"
        "    open_dataset(HubSource(kind='hub', hub='some/pets', folder='p', split='train'), None)\n"
        "except AttnbenchError as error:\n"
        "    print(error)\n"
        "assert time.monotonic() - started < 8\n"
    )
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert len(done.stdout.splitlines()) == 1 and "pass --data DIR" in done.stdout


def test_a_csv_lists_files_labels_and_splits(tmp_path: Path) -> None:
    write_classes(tmp_path / "pictures", {"one": 4})
    names = ["one/000.png", "one/001.png", "one/002.png", "one/003.png"]
    labels = ["Bär", "dog", "", "dog"]
    rows = zip(names, labels, ["train", "test", "train", "train"], strict=True)
    lines = ["name,label,split", *(f"{name},{label},{split}" for name, label, split in rows)]
    file = tmp_path / "pictures" / "list.csv"
    file.write_text("\n".join(lines), encoding="utf-8-sig")
    source = _own(tmp_path / "pictures", "train", file="name")
    assert _counts(source) == {"Bär": 1, "dog": 1} and "1 of 3" in source.notes[0]
    assert _names(_own(file, "test", file="name")) == ["one/001.png"]
    with pytest.raises(AttnbenchError, match="no split 'dev'; its splits are train, test"):
        _own(file, "dev", file="name")


@pytest.mark.parametrize(
    "entry", ["gone.png", "../outside.png", "/etc/hosts", "cat", "cat/000.png"]
)
def test_a_csv_entry_that_is_wrong_is_named(tmp_path: Path, entry: str) -> None:
    write_classes(tmp_path / "pets", PETS)
    write_picture(tmp_path / "outside.png", 1)
    (tmp_path / "pets" / "list.csv").write_text(f"file,label\ncat/000.png,cat\n{entry},dog\n")
    with pytest.raises(
        AttnbenchError, match=r"entry 2 of .*list\.csv, .*(not a file|outside|twice)"
    ):
        _own(tmp_path / "pets")


def test_a_csv_in_another_encoding_is_an_error(tmp_path: Path) -> None:
    write_classes(tmp_path, PETS)
    (tmp_path / "list.csv").write_bytes("file,label\ncat/000.png,B\xe4r\n".encode("latin-1"))
    with pytest.raises(AttnbenchError, match=r"list\.csv as a CSV in UTF-8"):
        _own(tmp_path)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], "there is no folder or file"),
        (["readme.txt"], "found no pictures"),
        (["cat/a.heic"], r"found no pictures .*formats that are not read \(\.heic\)"),
        (["a.png"], "found no pictures .*in no class's folder"),
    ],
)
def test_the_error_for_a_folder_without_pictures_says_what_is_there(
    tmp_path: Path, files: list[str], expected: str
) -> None:
    for file in files:
        write_picture(tmp_path / "pets" / file, 1)
    with pytest.raises(AttnbenchError, match=expected):
        _own(tmp_path / "pets")


@pytest.mark.small
@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason=f"no MNIST in {DATA}")
def test_mnist_as_folders_has_the_pictures_of_its_parquet_files(tmp_path: Path) -> None:
    parquet = open_dataset(
        HubSource(kind="hub", hub="ylecun/mnist", folder="mnist", split="test[:500]"), DATA
    )
    for row, label in enumerate(parquet.labels.tolist()):
        file = tmp_path / "mnist" / "test" / str(label) / f"{row:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(parquet.encoded(row))
    folders = open_dataset(
        HubSource(kind="hub", hub="ylecun/mnist", folder="mnist", split="test"), tmp_path
    )
    assert [name.split("/", 1)[1] for name in _names(folders)] == [
        name.split("/", 1)[1] for name in _names(parquet)
    ]
    pairs = zip(folders.load(range(500)), parquet.load(range(500)), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)
