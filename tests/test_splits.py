"""Splits, slices, divisions and configurations of folders and of Parquet files."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pytest
from picture_files import (
    counts_of,
    hub_source,
    names_of,
    own_source,
    write_classes,
    write_parquet,
)

from attnbench.errors import AttnbenchError
from attnbench.stimuli.opening import open_dataset
from attnbench.tasks import HubSource

PETS = {"cat": 6, "dog": 4}


pytestmark = pytest.mark.usefixtures("cache")


def _split_folders(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        write_classes(root / name, PETS, first_seed=100 * number)
    return root


@pytest.mark.parametrize("folder", ["val", "valid", "validation", "dev"])
@pytest.mark.parametrize("wanted", ["val", "valid", "validation", "dev"])
def test_the_validation_split_has_four_names(tmp_path: Path, folder: str, wanted: str) -> None:
    _split_folders(tmp_path / "pets", "train", folder)
    source = hub_source(tmp_path, wanted)
    assert source.location(0) == str(tmp_path / "pets" / folder / "cat" / "000.png")
    assert len(source.labels) == 10


def test_splits_are_sub_folders_and_all_of_them_by_default(tmp_path: Path) -> None:
    folder = _split_folders(tmp_path, "train", "test", "extra")
    assert names_of(own_source(folder, "test"))[0] == "test/cat/000.png"
    assert names_of(own_source(folder, "extra"))[0] == "extra/cat/000.png"
    assert len(own_source(folder).labels) == 30
    assert len(own_source(folder, "train+test[:2]").labels) == 12


@pytest.mark.parametrize("layout", ["flat", "splits", "parquet"])
def test_an_unknown_split_is_an_error_that_lists_the_splits(tmp_path: Path, layout: str) -> None:
    if layout == "parquet":
        write_parquet(tmp_path / "pets" / "train.parquet", [0, 1])
    else:
        _split_folders(tmp_path / "pets", "train" if layout == "splits" else "")
    for open_split in (partial(own_source, tmp_path / "pets"), partial(hub_source, tmp_path)):
        assert len(open_split("train").labels)
        for split in ("tset", "test", "test[:3]", "validation"):
            with pytest.raises(AttnbenchError, match=r"no split '\w+'; its splits are train"):
                open_split(split)


def test_a_name_that_two_splits_may_have_is_an_error(tmp_path: Path) -> None:
    folder = _split_folders(tmp_path, "dev", "train", "val")
    assert names_of(own_source(folder, "dev"))[0] == "dev/cat/000.png"
    with pytest.raises(AttnbenchError, match="several splits that 'validation' can mean: dev, val"):
        own_source(folder, "validation")


def test_a_class_beside_splits_is_left_out_with_a_note(tmp_path: Path) -> None:
    folder = write_classes(_split_folders(tmp_path / "pets", "train", "test"), {"bird": 2})
    (note,) = own_source(folder, "test").notes
    assert note.endswith("divided into test, train, so its other folders are left out (bird)")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write_classes(tmp_path, {"bicycle": 3, "train": 2})
    assert counts_of(own_source(tmp_path)) == {"bicycle": 3, "train": 2}


@pytest.mark.parametrize(
    "split", ["train[:3]", "train[3:7]", "train[50%:]", "train[-2:]", "train[:33%]"]
)
def test_a_slice_means_the_same_for_folders_as_for_parquet(tmp_path: Path, split: str) -> None:
    write_classes(tmp_path / "folders" / "pets" / "train", PETS)
    write_parquet(tmp_path / "parquet" / "pets" / "train.parquet", [0] * 6 + [1] * 4, first=1)
    folders, parquet = (hub_source(tmp_path / kind, split) for kind in ("folders", "parquet"))
    expected = datasets.load_dataset(
        "parquet",
        data_files={"train": str(tmp_path / "parquet" / "pets" / "train.parquet")},
        split=split,
    )
    assert folders.labels.tolist() == parquet.labels.tolist() == list(expected["label"])
    rows = range(len(folders.labels))
    for one, other in zip(folders.load(rows), parquet.load(rows), strict=True):
        assert np.array_equal(one, other)
    assert names_of(folders) == names_of(parquet)


@pytest.mark.parametrize("split", ["train[5", "train[a:b]", "train[::2]", "train[20:]"])
def test_a_slice_that_is_malformed_or_empty_is_an_error(tmp_path: Path, split: str) -> None:
    write_classes(tmp_path, PETS)
    with pytest.raises(AttnbenchError, match=r"cannot take the slice|train\[20:\] selects none"):
        own_source(tmp_path, split)


def test_classes_that_a_slice_leaves_out_are_noted(tmp_path: Path) -> None:
    (note,) = own_source(write_classes(tmp_path, PETS), "train[6:]").notes
    assert "no pictures of 1 classes (cat)" in note and "sorted by class" in note


def _divided(folder: Path, seed: int = 0) -> list[set[str]]:
    table = {"adapt": 0.5, "test": 0.3, "seed": seed}
    return [set(names_of(own_source(folder, table, part))) for part in ("adapt", "test")]


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
                write_parquet(folder / "0000.parquet", [0, 1, 1], first=10 * number)
            else:
                write_classes(folder, {"cat": 1, "dog": 2}, first_seed=10 * number)
    source = hub_source(tmp_path, "train", config="full_size")
    assert counts_of(source) == {"cat": 1, "dog": 2}
    assert "full_size/train" in source.location(0)
    with pytest.raises(AttnbenchError, match=r"several configurations .*160px, full_size"):
        hub_source(tmp_path, "train")
    with pytest.raises(
        AttnbenchError, match=r"no configuration 'large'; it holds 160px, full_size"
    ):
        hub_source(tmp_path, "train", config="large")
    assert counts_of(own_source(tmp_path / "pets" / "160px", "valid")) == {"cat": 1, "dog": 2}


def _sets(data: Path | None, **changes: object) -> dict[str, list[str]]:
    """The pictures of each class, as hashes, of a data set in a data folder or on the hub."""
    table = {"kind": "hub", "hub": "nobody/pets", "folder": "pets"}
    source = open_dataset(HubSource.model_validate(table | changes), data)
    pictures = [
        hashlib.sha256(source.encoded(row)).hexdigest() for row in range(len(source.labels))
    ]
    return {
        name: [pictures[row] for row in np.flatnonzero(source.labels == label)]
        for label, name in enumerate(source.classes)
    }


@pytest.mark.parametrize("layout", ["folders", "parquet", "hub"])
def test_a_slice_may_be_taken_of_each_class(tmp_path: Path, layout: str) -> None:
    data, hub = tmp_path, "nobody/pets"
    if layout == "folders":
        write_classes(tmp_path / "pets" / "train", PETS)
        write_classes(tmp_path / "pets" / "valid", PETS, first_seed=100)
    else:
        write_parquet(
            tmp_path / "pets" / "data" / "train-00000-of-00001.parquet", [0] * 6 + [1] * 4
        )
        valid = tmp_path / "pets" / "data" / "valid-00000-of-00001.parquet"
        write_parquet(valid, [1, 0] * 5, first=100)
    if layout == "hub":
        # `datasets` reads a folder as it reads a data set of the hub.
        data, hub = None, str(tmp_path / "pets")  # type: ignore[assignment]

    def sets(split: str, **changes: object) -> dict[str, list[str]]:
        return _sets(data, hub=hub, split=split, by_class=True, **changes)

    whole = {split: sets(split) for split in ("train", "valid")}
    assert {name: len(pictures) for name, pictures in whole["train"].items()} == PETS
    half, rest = sets("train[:50%]"), sets("train[50%:]+valid")
    for name in PETS:
        assert half[name] + rest[name] == whole["train"][name] + whole["valid"][name]
        assert len(half[name]) == PETS[name] / 2
    assert sets("train[1:3]", classes=["dog"]) == {"dog": whole["train"]["dog"][1:3]}
    assert list(sets("train", classes=["dog", "cat", "dog"])) == ["dog", "cat"]
    with pytest.raises(AttnbenchError, match=r"classes: 'dgo' is not a class of .* similar .* dog"):
        sets("train", classes=["dgo"])
    with pytest.raises(AttnbenchError, match=r"cannot take the slice \[a:b\] of 6 pictures"):
        sets("train[a:b]")


def test_the_hub_and_a_folder_agree_on_slices_of_whole_splits(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    write_parquet(folder / "data" / "train-00000-of-00001.parquet", [0, 1] * 5)
    for split in ("train[3:7]", "train[50%:]", "train[:2]+train[8:]"):
        assert _sets(None, hub=str(folder), split=split) == _sets(tmp_path, split=split)
