"""Folders of pictures: layouts, odd names, symlinks, and what is ignored."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from picture_files import (
    counts_of,
    hub_source,
    names_of,
    own_source,
    write_classes,
    write_picture,
)

from attnbench.errors import AttnbenchError
from attnbench.stimuli.opening import open_dataset
from attnbench.tasks import HubSource

PETS = {"cat": 6, "dog": 4}
DATA = Path(os.environ.get("ATTNBENCH_DATA", Path(__file__).parents[2] / "shared" / "data"))


pytestmark = pytest.mark.usefixtures("cache")


def test_a_picture_is_named_by_its_file(tmp_path: Path) -> None:
    source = own_source(write_classes(tmp_path / "pets", PETS))
    assert source.name == "pets" and source.classes == ("cat", "dog")
    assert names_of(source)[5:8] == ["cat/005.png", "dog/000.png", "dog/001.png"]
    assert source.location(0) == str(tmp_path / "pets" / "cat" / "000.png")


@pytest.mark.parametrize("deeper", ["", "pets/", "archive/pets/"])
def test_pictures_may_lie_deeper_and_belong_to_the_outer_class(tmp_path: Path, deeper: str) -> None:
    write_picture(tmp_path / deeper / "cat" / "siamese" / "a.png", 1)
    write_picture(tmp_path / deeper / "cat" / "b.png", 2)
    write_picture(tmp_path / deeper / "dog" / "c.png", 3)
    source = own_source(tmp_path)
    assert counts_of(source) == {"cat": 2, "dog": 1}
    assert names_of(source)[1] == f"{deeper}cat/siamese/a.png"


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".webp", ".tif", ".TIFF", ".bmp"])
def test_the_usual_formats_are_found(tmp_path: Path, suffix: str) -> None:
    write_picture(tmp_path / "cat" / f"a{suffix}", 1)
    write_picture(tmp_path / "dog" / "b.png", 1)
    assert counts_of(own_source(tmp_path)) == {"cat": 1, "dog": 1}


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
    assert counts_of(own_source(folder)) == PETS and not own_source(folder).notes
    (tmp_path / "data").mkdir()
    folder.rename(tmp_path / "data" / "pets")
    assert counts_of(hub_source(tmp_path / "data", "train")) == PETS


def test_pictures_that_are_left_out_are_counted(tmp_path: Path) -> None:
    write_classes(tmp_path, PETS)
    write_picture(tmp_path / "cat" / "new.heic", 1)
    write_picture(tmp_path / "loose.png", 2)
    notes = " ".join(own_source(tmp_path).notes)
    assert "1 pictures" in notes and ".heic" in notes and "in no class's folder" in notes


@pytest.mark.parametrize(
    "name",
    ["with space", "Bär", "new\nline", "tab\t'quote\"", "ü" * 127, "a" * 255, "-dash", "[x]+y"],
)
def test_classes_and_files_may_have_any_name(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / name / f"{name[:120]}.png", 1)
    write_picture(tmp_path / "dog" / "b.png", 2)
    source = own_source(tmp_path)
    row = source.labels.tolist().index(source.classes.index(name))
    assert source.image_name(row) == f"{name}/{name[:120]}.png"
    assert source.load([row])[0].shape == (3, 24, 20)


def test_accents_are_composed_and_invalid_unicode_is_escaped(tmp_path: Path) -> None:
    write_picture(tmp_path / unicodedata.normalize("NFD", "Bär") / "a.png", 1)
    write_picture(Path(os.fsdecode(os.fsencode(tmp_path) + b"/dog\xff")) / "b.png", 2)
    source = own_source(tmp_path)
    assert source.classes == ("Bär", "dog\\xff")
    assert len(source.load([0, 1])) == 2
    assert all(name.encode() for name in names_of(source))


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
        own_source(folder)


def test_broken_links_and_links_to_folders_inside_are_refused(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "pets", PETS)
    (folder / "loop").symlink_to(folder)
    with pytest.raises(
        AttnbenchError, match=r"pets/loop is a symlink to a folder of the same data"
    ):
        own_source(folder)
    (folder / "loop").unlink()
    (folder / "cat" / "gone.png").symlink_to(folder / "nothing.png")
    with pytest.raises(AttnbenchError, match=r"gone\.png leads nowhere"):
        own_source(folder)


def test_the_folder_itself_may_be_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(write_classes(tmp_path / "pets", PETS))
    assert counts_of(own_source(tmp_path / "link")) == PETS


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], "there is no folder or file"),
        (["readme.txt"], "found no pictures"),
        (["cat/a.heic"], r"found no pictures .*format is not read \(\.heic\)"),
        (["a.png"], "found no pictures .*in no class's folder"),
    ],
)
def test_the_error_for_a_folder_without_pictures_says_what_is_there(
    tmp_path: Path, files: list[str], expected: str
) -> None:
    for file in files:
        write_picture(tmp_path / "pets" / file, 1)
    with pytest.raises(AttnbenchError, match=expected):
        own_source(tmp_path / "pets")


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
    assert [name.split("/", 1)[1] for name in names_of(folders)] == [
        name.split("/", 1)[1] for name in names_of(parquet)
    ]
    pairs = zip(folders.load(range(500)), parquet.load(range(500)), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)
